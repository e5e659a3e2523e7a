package publisher

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"ggen.dev/marketplace/shared"
)

// PublicKey verifies one signer.
type PublicKey = ed25519.PublicKey

// Key signs for a publisher. It is immutable and safe for concurrent use, and no
// way of printing or logging it shows the secret.
type Key struct {
	// private is a pointer, so that printing a struct that holds a Key in an
	// unexported field, where package fmt calls no methods, shows an address.
	private *ed25519.PrivateKey
}

// GenerateKey makes a new key that is stored nowhere.
func GenerateKey() (*Key, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate publisher key: %w", err)
	}
	return &Key{private: &private}, nil
}

// Public is the key that verifies.
func (k Key) Public() PublicKey {
	public, _ := k.private.Public().(ed25519.PublicKey)
	return public
}

// Fingerprint is a short name for a public key: the first 16 hex digits of its
// SHA-256. It tells the keys of one publisher apart, and proves nothing.
func Fingerprint(public PublicKey) string { return hex.EncodeToString(RecoveryHash(public)[:8]) }

// String identifies the key by its public half.
func (k Key) String() string { return base64.StdEncoding.EncodeToString(k.Public()) }

// Format prints [Key.String], whatever the verb: %#v and %d would show the fields.
func (k Key) Format(state fmt.State, _ rune) { _, _ = io.WriteString(state, k.String()) }

// LogValue is what package slog prints.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.String()) }

func (k Key) sign(message []byte) []byte { return ed25519.Sign(*k.private, message) }

const keyBlock = "GGEN PUBLISHER KEY"

// loadOrCreateKey reads a key from path, or makes one there (mode 0600). Two
// processes that do so at once get the same key. Errors: STORAGE when the file
// cannot be read or written, is damaged, or may be read by others.
func loadOrCreateKey(path string) (*Key, error) {
	key, err := loadKey(path)
	if errors.Is(err, fs.ErrNotExist) {
		fresh, err := GenerateKey()
		if err != nil {
			return nil, err
		}
		if err := saveKey(path, fresh); err != nil {
			return nil, err
		}
		return loadKey(path)
	}
	return key, err
}

func loadKey(path string) (*Key, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, shared.NewError(shared.ReasonStorage, "read publisher key: %w", err)
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		return nil, shared.NewError(shared.ReasonStorage, "the publisher key %s may be read by others (mode %04o)", path, info.Mode().Perm()).
			WithHint("whoever reads it can publish in your name: run chmod 600 %s", path)
	}
	if info.Size() > 4<<10 {
		return nil, damagedKey(path)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, shared.NewError(shared.ReasonStorage, "read publisher key: %w", err)
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != keyBlock || len(block.Bytes) != ed25519.SeedSize {
		return nil, damagedKey(path)
	}
	return key(block.Bytes), nil
}

func key(seed []byte) *Key {
	private := ed25519.NewKeyFromSeed(seed)
	return &Key{private: &private}
}

func damagedKey(path string) error {
	return shared.NewError(shared.ReasonStorage, "the publisher key %s is damaged", path).
		WithHint("restore it from a backup; without it nobody can publish in your name again")
}

// encode is the form of a key in a file.
func (k Key) encode() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: keyBlock, Bytes: k.private.Seed()})
}

// saveKey puts a key at path unless one is there: a link, unlike a rename, fails when
// the name is taken, and nobody ever sees half a key.
func saveKey(path string, key *Key) error {
	err := writeFile(path, key.encode(), func(temporary string) error {
		if err := os.Link(temporary, path); !errors.Is(err, fs.ErrExist) {
			return err
		}
		return nil
	})
	if err != nil {
		return fileError(err, "write publisher key %s", path)
	}
	return nil
}

// replaceFile durably writes a file of mode 0600.
func replaceFile(path string, data []byte) error {
	return writeFile(path, data, func(temporary string) error { return os.Rename(temporary, path) })
}

// writeFile writes a synced temporary file of mode 0600 beside path, lets place
// put it there, and syncs the folder.
func writeFile(path string, data []byte, place func(temporary string) error) (err error) {
	folder := filepath.Dir(path)
	file, err := os.CreateTemp(folder, "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if removeErr := os.Remove(file.Name()); removeErr != nil && !errors.Is(removeErr, fs.ErrNotExist) {
			err = errors.Join(err, removeErr)
		}
	}()
	_, err = file.Write(data)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	if err := place(file.Name()); err != nil {
		return err
	}
	if runtime.GOOS == "windows" {
		return nil // folders cannot be synced there
	}
	dir, err := os.Open(folder)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// fileError tells a full disk from other failures.
func fileError(err error, format string, args ...any) error {
	what := fmt.Sprintf(format, args...)
	if errors.Is(err, syscall.ENOSPC) {
		return shared.NewError(shared.ReasonStorageFull, "%s: %w", what, err).WithHint("free some space and try again")
	}
	return shared.NewError(shared.ReasonStorage, "%s: %w", what, err)
}
