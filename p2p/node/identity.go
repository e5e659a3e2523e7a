package node

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/libp2p/go-libp2p/core/crypto"

	"ggen.dev/marketplace/shared"
)

// maxIdentity bounds the identity file. An Ed25519 key is 68 bytes there.
const maxIdentity = 1 << 10

// LoadOrCreateIdentity reads the node's key from path, or makes one there: an
// Ed25519 key in libp2p's encoding, mode 0600. Two processes that do so at once
// get the same key. The folder must exist.
//
// Errors: STORAGE when the file cannot be read or written, is damaged, or is
// readable by others.
func LoadOrCreateIdentity(path string) (crypto.PrivKey, error) {
	key, err := loadIdentity(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := createIdentity(path); err != nil {
			return nil, shared.NewError(shared.ReasonStorage, "create node identity %s: %w", path, err)
		}
		key, err = loadIdentity(path)
	}
	if err != nil {
		var typed *shared.Error
		if errors.As(err, &typed) {
			return nil, typed
		}
		return nil, shared.NewError(shared.ReasonStorage, "read node identity %s: %w", path, err)
	}
	return key, nil
}

func loadIdentity(path string) (crypto.PrivKey, error) {
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
		return nil, shared.NewError(shared.ReasonStorage, "node identity %s may be read by others (mode %04o)", path, info.Mode().Perm()).
			WithHint("it is a secret: run chmod 600 %s, or delete it to get a new peer ID", path)
	}
	data, err := io.ReadAll(io.LimitReader(file, maxIdentity+1))
	if err != nil {
		return nil, err
	}
	key, err := parseIdentity(data)
	if err != nil {
		return nil, shared.NewError(shared.ReasonStorage, "node identity %s is damaged: %w", path, err).
			WithHint("restore it from a backup, or delete it to get a new peer ID")
	}
	return key, nil
}

// parseIdentity reads the content of an identity file.
func parseIdentity(data []byte) (crypto.PrivKey, error) {
	if len(data) > maxIdentity {
		return nil, fmt.Errorf("it has more than %d bytes", maxIdentity)
	}
	key, err := crypto.UnmarshalPrivateKey(data)
	if err != nil {
		return nil, errors.New("it holds no key") // the cause could quote key material
	}
	if key.Type() != crypto.Ed25519 {
		return nil, errors.New("it holds a key of another kind than Ed25519")
	}
	return key, nil
}

// createIdentity puts a new key at path unless somebody was faster.
func createIdentity(path string) error {
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		return err
	}
	data, err := crypto.MarshalPrivateKey(key)
	if err != nil {
		return err
	}
	// A link, unlike a rename, fails when the name is taken: the first one wins,
	// and nobody ever sees half a key.
	return writeFile(path, data, func(temporary string) error {
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
