package publisher

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"ggen.dev/marketplace/shared"
)

// PublicKey verifies one signer.
type PublicKey = ed25519.PublicKey

// Key signs for a publisher. Its String never shows the secret.
type Key struct{ private ed25519.PrivateKey }

// GenerateKey makes a new key.
func GenerateKey() (*Key, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate publisher key: %w", err)
	}
	return &Key{private}, nil
}

// Public is the key that verifies.
func (k *Key) Public() PublicKey {
	public, _ := k.private.Public().(ed25519.PublicKey)
	return public
}

// String identifies the key by its public half.
func (k *Key) String() string { return base64.StdEncoding.EncodeToString(k.Public()) }

const keyBlock = "GGEN PUBLISHER KEY"

// LoadOrCreateKey reads the publisher's key from path, or makes one there (mode
// 0600). Two processes that do so at once get the same key. The folder must
// exist. Errors: STORAGE when the file cannot be read or written, is damaged, or
// may be read by others.
func LoadOrCreateKey(path string) (*Key, error) {
	key, err := loadKey(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := createKey(path); err != nil {
			return nil, shared.NewError(shared.ReasonStorage, "create publisher key %s: %w", path, err)
		}
		key, err = loadKey(path)
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
	return &Key{ed25519.NewKeyFromSeed(block.Bytes)}, nil
}

func damagedKey(path string) error {
	return shared.NewError(shared.ReasonStorage, "the publisher key %s is damaged", path).
		WithHint("restore it from a backup; without it nobody can publish in your name again")
}

// createKey puts a new key at path unless somebody was faster: a link, unlike a
// rename, fails when the name is taken, and nobody ever sees half a key.
func createKey(path string) (err error) {
	key, err := GenerateKey()
	if err != nil {
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(path), ".key*") // mode 0600
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(file.Name())) }()
	err = pem.Encode(file, &pem.Block{Type: keyBlock, Bytes: key.private.Seed()})
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	if err := os.Link(file.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if runtime.GOOS == "windows" {
		return nil // folders cannot be synced there
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
