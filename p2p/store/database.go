package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"

	"ggen.dev/marketplace/shared"
)

const (
	// SchemaVersion is the version of the database's layout. It is raised when an
	// older engine could misread what a newer one writes.
	SchemaVersion = 1

	// dbLockTimeout is how long to wait for another process to close the database.
	// The engine's lock excludes other engines, so this only bridges the moment in
	// which one that was killed is still being cleaned up.
	dbLockTimeout = 3 * time.Second
)

// The bucket and key of the schema version; they are the same in all versions.
var (
	metaBucket = []byte("meta")
	schemaKey  = []byte("schema")
)

// OpenDB opens the database at path, or creates it with mode 0600; its folder
// must exist. The bucket "meta" is the store's, all others are the caller's.
//
// A database of a newer engine is refused and not touched. All errors are
// STORAGE with the metadata path, or STORAGE_FULL.
func OpenDB(path string) (*bbolt.DB, error) {
	_, err := os.Stat(path)
	fresh := errors.Is(err, fs.ErrNotExist)
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout: dbLockTimeout,
		// The list of free pages is found again at opening (2 ms for 100 MB) instead
		// of being written with every transaction.
		NoFreelistSync: true,
		FreelistType:   bbolt.FreelistMapType,
	})
	if err != nil {
		return nil, dbFailure(path, err)
	}
	if err := checkSchema(db); err != nil {
		return nil, errors.Join(dbFailure(path, err), db.Close())
	}
	if fresh {
		if err := syncDir(filepath.Dir(path)); err != nil {
			return nil, errors.Join(dbFailure(path, err), db.Close())
		}
	}
	return db, nil
}

// newerSchemaError is the error of a database that a newer engine wrote.
type newerSchemaError int

func (v newerSchemaError) Error() string {
	return fmt.Sprintf("it has schema version %d and this engine knows %d", int(v), SchemaVersion)
}

// checkSchema reads the schema version, and writes ours to a new database.
func checkSchema(db *bbolt.DB) error {
	var stored string
	var empty bool
	err := db.View(func(tx *bbolt.Tx) error {
		if meta := tx.Bucket(metaBucket); meta != nil {
			stored = string(meta.Get(schemaKey))
		}
		first, _ := tx.Cursor().First()
		empty = first == nil
		return nil
	})
	switch {
	case err != nil:
		return err
	case stored == "" && empty:
		return db.Update(func(tx *bbolt.Tx) error {
			meta, err := tx.CreateBucketIfNotExists(metaBucket)
			if err != nil {
				return err
			}
			return meta.Put(schemaKey, []byte(strconv.Itoa(SchemaVersion)))
		})
	case stored == "":
		return errors.New("it has no schema version: not a database of ggen")
	}
	version, err := strconv.Atoi(stored)
	switch {
	case err != nil || version < 1:
		return fmt.Errorf("its schema version is %.20q", stored)
	case version > SchemaVersion:
		return newerSchemaError(version)
	}
	return nil
}

func dbFailure(path string, err error) error {
	var newer newerSchemaError
	failure := shared.NewError(shared.ReasonStorage, "open database %s: %w", path, err).With("path", path)
	switch {
	case isFull(err):
		failure.Reason = shared.ReasonStorageFull
		return failure.WithHint("free space on the file system that holds %s and try again", path)
	case errors.As(err, &newer):
		return failure.WithHint("a newer engine wrote it: use that engine, or another home folder")
	case errors.Is(err, bbolterrors.ErrTimeout):
		return failure.WithHint("another process has it open: stop that engine with `ggen marketplace p2p stop`")
	case errors.Is(err, fs.ErrPermission):
		return failure.WithHint("the user who runs the engine must own the file")
	case errors.Is(err, bbolterrors.ErrInvalid), errors.Is(err, bbolterrors.ErrChecksum), errors.Is(err, bbolterrors.ErrVersionMismatch):
		return failure.WithHint("the file is damaged: move it away and start again; the catalogue comes back from other peers, pins do not")
	}
	return failure
}
