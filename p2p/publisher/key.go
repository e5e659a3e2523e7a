package publisher

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"

	"ggen.dev/marketplace/shared"
)

const (
	// maxKeyFile bounds a key file in bytes; an Ed25519 key takes 119.
	maxKeyFile = 4 << 10
	pemType    = "PRIVATE KEY"
)

// Key is an Ed25519 signing key of a publisher. It is immutable and never shows
// its secret when it is printed or logged.
type Key struct {
	private ed25519.PrivateKey
	path    string // empty unless it came from a file
}

// GenerateKey makes a key that is stored nowhere.
func GenerateKey() (*Key, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate publisher key: %w", err)
	}
	return &Key{private: private}, nil
}

// LoadOrCreateKey reads a publisher's key from path, or makes one there: PKCS #8
// in PEM, mode 0600. Two processes that do so at once get the same key. The
// folder must exist.
//
// Errors: STORAGE when the file cannot be read or written, is damaged, or may
// be read by others.
func LoadOrCreateKey(path string) (*Key, error) {
	key, err := loadKey(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := createKey(path); err != nil {
			return nil, shared.NewError(shared.ReasonStorage, "create publisher key %s: %w", path, err)
		}
		key, err = loadKey(path)
	}
	var typed *shared.Error
	if err != nil && !errors.As(err, &typed) {
		return nil, shared.NewError(shared.ReasonStorage, "read publisher key %s: %w", path, err)
	}
	return key, err
}

func loadKey(path string) (*Key, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // only read
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file")
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		return nil, shared.NewError(shared.ReasonStorage, "publisher key %s may be used by others (mode %04o)", path, info.Mode().Perm()).
			WithHint("whoever reads it can publish in your name: run chmod 600 %s", path)
	}
	data, err := io.ReadAll(io.LimitReader(file, maxKeyFile+1))
	if err != nil {
		return nil, err
	}
	private, err := parseKey(data)
	if err != nil {
		return nil, shared.NewError(shared.ReasonStorage, "publisher key %s is damaged: %w", path, err).
			WithHint("restore it from a backup; without it nothing more can be published in this name")
	}
	return &Key{private: private, path: path}, nil
}

// parseKey reads the content of a key file. Its errors never quote the content.
func parseKey(data []byte) (ed25519.PrivateKey, error) {
	if len(data) > maxKeyFile {
		return nil, fmt.Errorf("it has more than %d bytes", maxKeyFile)
	}
	block, rest := pem.Decode(data)
	if block == nil || block.Type != pemType || len(bytes.TrimSpace(rest)) != 0 {
		return nil, fmt.Errorf("it is not one PEM block of type %s", pemType)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("it holds no PKCS #8 key")
	}
	private, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, errors.New("it holds a key of another kind than Ed25519")
	}
	return private, nil
}

// createKey puts a new key at path unless somebody was faster.
func createKey(path string) error {
	key, err := GenerateKey()
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key.private)
	if err != nil {
		return err
	}
	// A link, unlike a rename, fails when the name is taken: the first one wins,
	// and nobody ever sees half a key.
	return writeFile(path, pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der}), func(temporary string) error {
		if err := os.Link(temporary, path); !errors.Is(err, fs.ErrExist) {
			return err
		}
		return nil
	})
}

// writeFile writes data to a temporary file of mode 0600 beside path, syncs it,
// lets place put it at path, and syncs the folder.
func writeFile(path string, data []byte, place func(temporary string) error) (err error) {
	folder := filepath.Dir(path)
	file, err := os.CreateTemp(folder, "."+filepath.Base(path)+".*")
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
	return syncFolder(folder)
}

func syncFolder(folder string) error {
	if runtime.GOOS == "windows" {
		return nil // folders cannot be synced there
	}
	dir, err := os.Open(folder)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// Public returns the public half. The caller must not change it.
func (k *Key) Public() ed25519.PublicKey {
	public, _ := k.private.Public().(ed25519.PublicKey) // ed25519 documents the type
	return public
}

// String shows that it is a key, and not which.
func (k *Key) String() string { return "publisher key (secret)" }

// GoString keeps %#v from printing the secret.
func (k *Key) GoString() string { return k.String() }

// LogValue keeps slog from printing the secret.
func (k *Key) LogValue() slog.Value { return slog.StringValue(k.String()) }
