package store

import (
	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

// ReleasePages gives back the memory through which the database's file was read: who
// reads all of it once, as an engine that starts does, would count all of it as its own
// for ever. What is read later comes from the kernel's cache of the file. It is only
// advice: a failure costs memory and nothing else.
func (db *DB) ReleasePages() {
	_ = db.View(func(tx *bbolt.Tx) error { // in a transaction the mapping stays where it is
		page := int64(tx.DB().Info().PageSize)
		if whole := tx.Size() / page * page; whole > 0 {
			_, _, _ = unix.Syscall(unix.SYS_MADVISE, tx.DB().Info().Data, uintptr(whole), unix.MADV_DONTNEED)
		}
		return nil
	})
}
