package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"go.etcd.io/bbolt"

	"ggen.dev/marketplace/shared"
)

// SchemaVersion is the version of everything that an engine keeps in its home, of
// which the database's key meta/schema tells. It is raised when an older engine
// could misread or spoil what a newer one writes.
const SchemaVersion = 1

// The bucket and key of the schema version; they are the same in all versions.
var (
	metaBucket = []byte("meta")
	schemaKey  = []byte("schema")
)

// firstBuckets are those of engines that wrote no schema version.
var firstBuckets = [][]byte{[]byte("logs"), []byte("forks"), []byte("pins"), []byte("reputation")}

// migration brings the home from one schema version to the next.
type migration struct {
	from  int
	apply func(*bbolt.Tx) error
}

// migrations has one step for each version below SchemaVersion, in order.
var migrations = []migration{
	{from: 0, apply: func(*bbolt.Tx) error { return nil }}, // the same, without the key
}

// supported is the version to which the steps lead.
func supported(steps []migration) int { return steps[len(steps)-1].from + 1 }

// newerSchemaError is the error of a database that a newer engine wrote.
type newerSchemaError struct{ schema, supported int }

// Error implements error.
func (e newerSchemaError) Error() string {
	return fmt.Sprintf("a newer engine wrote it: it has schema %d, and this engine supports up to %d", e.schema, e.supported)
}

func (e newerSchemaError) describe(failure *shared.Error) *shared.Error {
	return failure.WithHint("use the newer engine: `ggen marketplace plugin use VERSION`; nothing was changed").
		With("schema", strconv.Itoa(e.schema)).With("supported", strconv.Itoa(e.supported))
}

// schemaOf reads the version, which is 0 where an engine wrote none. It refuses
// what is newer than supported and what is not ours.
func schemaOf(tx *bbolt.Tx, supported int) (int, error) {
	var stored []byte
	if meta := tx.Bucket(metaBucket); meta != nil {
		stored = meta.Get(schemaKey)
	}
	if stored == nil {
		if first, _ := tx.Cursor().First(); first == nil {
			return 0, nil // one that was killed right after it made the file
		}
		for _, name := range firstBuckets {
			if tx.Bucket(name) != nil {
				return 0, nil
			}
		}
		return 0, damaged("it has no schema version: not a database of ggen")
	}
	version, err := strconv.Atoi(string(stored))
	switch {
	case err != nil || version < 1:
		return 0, damaged("its schema version is %.20q", stored)
	case version > supported:
		return 0, newerSchemaError{version, supported}
	}
	return version, nil
}

func putSchema(tx *bbolt.Tx, version int) error {
	meta, err := tx.CreateBucketIfNotExists(metaBucket)
	if err != nil {
		return err
	}
	return meta.Put(schemaKey, []byte(strconv.Itoa(version)))
}

// migrate brings the database up to date: a copy first, then all steps in one
// transaction. A crash leaves the old state or the new one.
func (db *DB) migrate(steps []migration) error {
	target, version := supported(steps), 0
	err := db.View(func(tx *bbolt.Tx) (err error) {
		version, err = schemaOf(tx, target) // again: another engine may have come in between
		return err
	})
	if err != nil || version == target {
		return err
	}
	if err := db.backup(fmt.Sprintf("%s.v%d.bak", db.path, version)); err != nil {
		return fmt.Errorf("copy it before its schema is raised from %d to %d: %w", version, target, err)
	}
	return db.Update(func(tx *bbolt.Tx) error {
		for _, step := range steps {
			if step.from < version {
				continue
			}
			if err := step.apply(tx); err != nil {
				return fmt.Errorf("raise its schema from %d to %d: %w", step.from, step.from+1, err)
			}
		}
		return putSchema(tx, target)
	})
}

// backup copies the database to path, which it replaces as a whole. The database's
// lock keeps others from the temporary file.
func (db *DB) backup(path string) (err error) {
	file, err := os.OpenFile(path+".tmp", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	err = db.View(func(tx *bbolt.Tx) error {
		_, err := tx.WriteTo(file)
		return err
	})
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	return syncDir(filepath.Dir(path))
}
