package plugins

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"aead.dev/minisign"

	"ggen.dev/marketplace/shared"
)

// maxKeys bounds how many keys can be pinned.
const maxKeys = 32

// keyring are the pinned keys. Without any, signatures are not looked at.
type keyring struct {
	dir  string
	keys []minisign.PublicKey
}

// loadKeys reads the pinned keys. One that cannot be read is an error: an engine
// must not pass because a key was damaged.
func loadKeys(home string) (keyring, error) {
	ring := keyring{dir: filepath.Join(home, "plugin-keys")}
	entries, err := os.ReadDir(ring.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return keyring{}, shared.NewError(shared.ReasonStorage, "read the keys of engines: %w", err).With("path", ring.dir)
	}
	for _, entry := range entries {
		if filepath.Ext(entry.Name()) != ".pub" {
			continue
		}
		path := filepath.Join(ring.dir, entry.Name())
		var key minisign.PublicKey
		data, err := readSmall(path)
		if err == nil {
			err = key.UnmarshalText(data)
		}
		if err != nil {
			return keyring{}, shared.NewError(shared.ReasonEngineInvalid, "the pinned key %s cannot be read: %w", path, err).
				WithHint("put a public key of minisign there, or remove the file").With("path", path)
		}
		if ring.keys = append(ring.keys, key); len(ring.keys) > maxKeys {
			return keyring{}, shared.NewError(shared.ReasonLimitExceeded, "%s holds more than %d keys", ring.dir, maxKeys)
		}
	}
	return ring, nil
}

// required tells whether engines need a signature.
func (k keyring) required() bool { return len(k.keys) > 0 }

// by finds the pinned key with this ID, which is only a hint.
func (k keyring) by(id uint64) (minisign.PublicKey, bool) {
	for _, key := range k.keys {
		if key.ID() == id {
			return key, true
		}
	}
	return minisign.PublicKey{}, false
}

// signed is what can be said about an engine's signature without hashing the
// engine; why and fix are empty if nothing speaks against it.
type signed struct {
	state    string
	why, fix string
	text     []byte
	key      minisign.PublicKey
}

func (k keyring) look(path string) signed {
	data, err := readSmall(path + signatureSuffix)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !k.required():
		return signed{state: "none"}
	case errors.Is(err, fs.ErrNotExist):
		return signed{
			state: "missing", why: "its signature file is missing, and keys of engines are pinned",
			fix: fmt.Sprintf("get %s from where you got the engine; only if you want unsigned engines, empty %s", filepath.Base(path)+signatureSuffix, k.dir),
		}
	case !k.required():
		return signed{state: "unchecked"}
	}
	var s minisign.Signature
	if err == nil {
		err = s.UnmarshalText(data)
	}
	if err == nil && s.Algorithm != minisign.HashEdDSA {
		err = errors.New("it signs the file itself and not its hash, as minisign did before version 0.10")
	}
	again := "get the signature again from where you got the engine"
	if err != nil {
		return signed{state: "unreadable", why: "its signature file cannot be used: " + strings.TrimPrefix(err.Error(), "minisign: "), fix: again}
	}
	key, known := k.by(s.KeyID)
	if !known {
		return signed{
			state: "by an unknown key", why: fmt.Sprintf("it is signed by the key %016X, which is not pinned", s.KeyID),
			fix: "if you trust that key, put its .pub file into " + k.dir,
		}
	}
	return signed{state: "by a pinned key", text: data, key: key}
}
