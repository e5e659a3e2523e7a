package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"

	"ggen.dev/marketplace/shared"
)

// dbLockTimeout is how long to wait for another process to close the database.
// The engine's lock excludes other engines, so this only bridges the moment in
// which one that was killed is still being cleaned up.
const dbLockTimeout = 3 * time.Second

// DB is the engine's database. It is bbolt, but a file that is damaged makes its
// calls fail, where bbolt would end the process: bbolt panics on a page that makes
// no sense, and reads pages that a truncated file lacks. Its methods may be called
// concurrently; transactions must not be nested.
type DB struct {
	path string
	bolt *bbolt.DB
	file *os.File // bolt's

	writing sync.Mutex // held during a write transaction
	refused error      // why nothing more is written; guarded by writing

	// beginning is held while a transaction begins, and guards stuck: a panic in
	// there leaves bbolt's locks taken for ever, so nobody may wait for them.
	beginning sync.Mutex
	stuck     error
}

// OpenDB opens the database at path, or creates it with mode 0600; its folder
// must exist. It checks all pages that are in use first (see sound), which takes
// 20 ms for 100,000 entries, and brings an older schema up to date.
//
// A database of a newer engine is refused and not touched. All errors are
// STORAGE with the metadata path, or STORAGE_FULL.
func OpenDB(path string) (*DB, error) { return openDB(path, migrations) }

func openDB(path string, steps []migration) (*DB, error) {
	db, err := openChecked(path, steps)
	if err != nil {
		return nil, dbFailure("open", path, err)
	}
	return db, nil
}

func openChecked(path string, steps []migration) (*DB, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = createDB(path, supported(steps))
	case err == nil && !info.Mode().IsRegular():
		err = damaged("it is not a file: %v", info.Mode().Type())
	case err == nil && info.Size() == 0:
		err = damaged("it is empty")
	}
	if err != nil {
		return nil, err
	}
	// Nothing is opened for writing before it is known to be sound and ours.
	if err := inspect(path, steps); err != nil {
		return nil, err
	}
	db := &DB{path: path}
	if db.bolt, db.file, err = openBolt(path, false); err != nil {
		return nil, err
	}
	if err := db.migrate(steps); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// inspect refuses a database that is damaged, not ours or too new. It only reads.
func inspect(path string, steps []migration) (err error) {
	bolt, file, err := openBolt(path, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bolt.Close()) }()
	if err := sound(file, bolt.Info().PageSize); err != nil {
		return err
	}
	return guarded(func() error {
		return bolt.View(func(tx *bbolt.Tx) error {
			_, err := schemaOf(tx, supported(steps))
			return err
		})
	})
}

// openBolt opens the file for reading alone, in which case bbolt looks at its
// first two pages only, or for writing, in which case it must be sound.
func openBolt(path string, readOnly bool) (bolt *bbolt.DB, file *os.File, err error) {
	err = guarded(func() (err error) {
		bolt, err = bbolt.Open(path, 0o600, &bbolt.Options{
			ReadOnly: readOnly,
			Timeout:  dbLockTimeout,
			// The list of free pages is found again at opening (2 ms for 100 MB) instead
			// of being written with every transaction.
			NoFreelistSync: true,
			FreelistType:   bbolt.FreelistMapType,
			OpenFile: func(path string, flag int, mode os.FileMode) (*os.File, error) {
				file, err = os.OpenFile(path, flag, mode)
				return file, err
			},
		})
		return err
	})
	var errno syscall.Errno
	if err == nil || file == nil || errors.Is(err, bbolterrors.ErrTimeout) || errors.As(err, &errno) {
		return bolt, file, err
	}
	_ = abandon(file) // it is open only if bbolt panicked
	return nil, nil, damaged("%w", err)
}

// createDB makes a database that appears at path as a whole, unless there is one.
func createDB(path string, version int) (err error) {
	folder, pattern := filepath.Dir(path), "."+filepath.Base(path)+".new-"
	leftovers, err := filepath.Glob(filepath.Join(folder, pattern+"*"))
	if err != nil {
		return err
	}
	for _, leftover := range leftovers {
		_ = os.Remove(leftover) // of a start that was killed; it would only take space
	}
	temporary, err := os.CreateTemp(folder, pattern) // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if removeErr := os.Remove(temporary.Name()); !errors.Is(removeErr, fs.ErrNotExist) {
			err = errors.Join(err, removeErr)
		}
	}()
	if err := temporary.Close(); err != nil {
		return err
	}
	bolt, _, err := openBolt(temporary.Name(), false)
	if err != nil {
		return err
	}
	err = bolt.Update(func(tx *bbolt.Tx) error { return putSchema(tx, version) })
	if err = errors.Join(err, bolt.Close()); err != nil {
		return err
	}
	if err := os.Link(temporary.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(folder)
}

// Path is the file's.
func (db *DB) Path() string { return db.path }

// View runs read in a transaction that sees one state of the database. What it
// reads is valid until it returns. Errors: read's own; STORAGE.
func (db *DB) View(read func(*bbolt.Tx) error) error {
	return db.transact(false, read)
}

// Update runs write in a transaction that is durable when Update returns nil, and
// has not happened when it returns an error. Once it has met damage, it refuses
// everything: what is written over a damaged file may damage more. Errors: write's
// own; STORAGE, STORAGE_FULL.
func (db *DB) Update(write func(*bbolt.Tx) error) error {
	db.writing.Lock()
	defer db.writing.Unlock()
	if db.refused != nil {
		return db.refused
	}
	err := db.transact(true, write)
	if isDamage(err) {
		db.refused = err
	}
	return err
}

// transact uses neither bbolt's View nor its Update: after a panic these scan the
// whole database, in a goroutine where a further panic ends the process.
func (db *DB) transact(writable bool, work func(*bbolt.Tx) error) (err error) {
	tx, err := db.begin(writable)
	if err != nil {
		return err
	}
	defer func() {
		rollback := guarded(tx.Rollback) // ErrTxClosed after a commit
		if isDamage(rollback) {
			err = errors.Join(err, db.stick(rollback))
		}
	}()
	err = guarded(func() error { return work(tx) })
	if isDamage(err) {
		return dbFailure("read", db.path, err)
	}
	if err != nil || !writable {
		return err
	}
	if err := guarded(tx.Commit); err != nil {
		return dbFailure("write", db.path, err)
	}
	return nil
}

func (db *DB) begin(writable bool) (tx *bbolt.Tx, err error) {
	db.beginning.Lock()
	defer db.beginning.Unlock()
	if db.stuck != nil {
		return nil, db.stuck
	}
	err = guarded(func() (err error) {
		tx, err = db.bolt.Begin(writable)
		return err
	})
	if err == nil {
		return tx, nil
	}
	err = dbFailure("read", db.path, err)
	if isDamage(err) {
		db.stuck = err
	}
	return nil, err
}

func (db *DB) stick(err error) error {
	db.beginning.Lock()
	defer db.beginning.Unlock()
	db.stuck = dbFailure("read", db.path, err)
	return db.stuck
}

// Close waits for running transactions. It is idempotent.
func (db *DB) Close() error {
	db.beginning.Lock()
	stuck := db.stuck != nil
	db.beginning.Unlock()
	if !stuck {
		return db.bolt.Close()
	}
	if err := abandon(db.file); !errors.Is(err, os.ErrClosed) { // bbolt's own Close would wait for ever
		return err
	}
	return nil
}

// abandon closes a file that bbolt cannot close. Its lock is given up on its own,
// because the file lives on as long as the memory that shows it.
func abandon(file *os.File) error { return errors.Join(unlock(file), file.Close()) }

// damage says what is wrong with a database file.
type damage struct{ error }

func damaged(format string, args ...any) error { return &damage{fmt.Errorf(format, args...)} }

func isDamage(err error) bool {
	var found *damage
	return errors.As(err, &found)
}

// guarded runs what works on bbolt's pages: a panic, and memory that cannot be read
// because the file is shorter than it was or the disk fails, become an error.
func guarded(work func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if met := recover(); met != nil {
			err = damaged("a page is damaged: %.300v", met)
		}
	}()
	return work()
}

// dbFailure says what was done with which file, why it failed, and what to do.
func dbFailure(verb, path string, err error) error {
	var newer newerSchemaError
	var typed *shared.Error
	if errors.As(err, &typed) {
		return shared.AsError(err) // it names the file already
	}
	failure := shared.NewError(shared.ReasonStorage, "%s database %s: %w", verb, path, err).With("path", path)
	switch {
	case isFull(err):
		failure.Reason = shared.ReasonStorageFull
		return failure.WithHint("free space on the file system that holds %s and try again", path)
	case errors.As(err, &newer):
		return newer.describe(failure)
	case errors.Is(err, bbolterrors.ErrTimeout):
		return failure.WithHint("another process has it open: stop that engine with `ggen marketplace p2p stop`")
	case errors.Is(err, fs.ErrPermission):
		return failure.WithHint("the user who runs the engine must own the file")
	case isDamage(err):
		return failure.WithHint("the file is damaged or not ggen's: move it away and start again. The catalogue is fetched again from the peers, and keys are in other files; only pins are lost")
	}
	return failure
}
