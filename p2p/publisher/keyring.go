package publisher

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"ggen.dev/marketplace/shared"
)

// Keyring is what one home signs with: the root documents of its publisher as they
// were made or imported here, and private keys. On disk it is a folder:
//
//	publisher.key              the first key, made when there is none
//	publisher-<fingerprint>.key  further ones
//	publisher.roots            the root documents; without it, [NewRoot] of the first key
//	publisher.key.mark         see [Mark]
//
// Keys are written before the documents that name them, so a crash leaves at most a
// key too many. A key that no document names any more stays, and signs nothing. A
// keyring is safe for concurrent use; two processes must not use one folder at once.
type Keyring struct {
	folder string // empty: in memory alone

	mu    sync.Mutex
	chain Chain
	made  bool // the chain is not just what the first key implies
	keys  []*Key
}

const (
	firstKey  = "publisher.key"
	rootsFile = "publisher.roots"

	// maxKeyFiles bounds the key files that are read: every rotation leaves one.
	maxKeyFiles = MaxRoots * MaxKeys

	maxRootsFile = 2 * MaxRoots * MaxRootSize // base64 in JSON
)

// OpenKeyring reads the keyring in a folder, which must exist; the first time it makes
// a key and so a publisher. Errors: STORAGE when a file cannot be read or written, is
// damaged, or may be read by others.
func OpenKeyring(folder string) (*Keyring, error) {
	r := &Keyring{folder: folder}
	signed, err := r.readRoots()
	if err != nil {
		return nil, err
	}
	r.made = len(signed) > 0
	if r.keys, err = r.readKeys(len(signed) == 0); err != nil {
		return nil, err
	}
	if len(signed) == 0 {
		root, err := NewRoot(r.keys[0])
		if err != nil {
			return nil, err
		}
		signed = [][]byte{root}
	}
	if r.chain, err = ParseChain(signed); err != nil {
		return nil, r.damagedRoots(err)
	}
	return r, nil
}

// NewKeyring makes a keyring in memory, for a publisher of one key.
func NewKeyring(key *Key) (*Keyring, error) {
	root, err := NewRoot(key)
	if err != nil {
		return nil, err
	}
	chain, err := ParseChain([][]byte{root})
	return &Keyring{chain: chain, keys: []*Key{key}}, err
}

func (r *Keyring) path(name string) string {
	if r.folder == "" {
		return ""
	}
	return filepath.Join(r.folder, name)
}

// rootsOnDisk is the form of publisher.roots.
type rootsOnDisk struct {
	Format int      `json:"v"` // 1
	Roots  [][]byte `json:"roots"`
}

func (r *Keyring) readRoots() ([][]byte, error) {
	path := r.path(rootsFile)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil && (!info.Mode().IsRegular() || info.Size() > maxRootsFile) {
		err = errors.New("it is not what was written there")
	}
	if err != nil {
		return nil, r.damagedRoots(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, shared.NewError(shared.ReasonStorage, "read the root documents: %w", err)
	}
	var file rootsOnDisk
	if err := strictJSON(data, &file); err != nil {
		return nil, r.damagedRoots(err)
	}
	if file.Format != 1 || len(file.Roots) == 0 {
		return nil, r.damagedRoots(errors.New("its format is not known"))
	}
	return file.Roots, nil
}

func (r *Keyring) damagedRoots(err error) error {
	return shared.NewError(shared.ReasonStorage, "the root documents %s of your publisher are damaged: %w", r.path(rootsFile), err).
		WithHint("restore the folder from a backup, or import a key that was exported: its file holds them too")
}

// readKeys reads all key files; of the first, create makes one if it is missing.
func (r *Keyring) readKeys(create bool) (keys []*Key, err error) {
	if create {
		key, err := loadOrCreateKey(r.path(firstKey))
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	names, err := os.ReadDir(r.folder)
	if err != nil {
		return nil, shared.NewError(shared.ReasonStorage, "read the keys: %w", err)
	}
	for _, entry := range names {
		name := entry.Name()
		further := strings.HasPrefix(name, "publisher-") && strings.HasSuffix(name, ".key")
		if !further && (create || name != firstKey) || !entry.Type().IsRegular() {
			continue
		}
		if len(keys) == maxKeyFiles {
			return nil, shared.NewError(shared.ReasonStorage, "over %d keys in %s", maxKeyFiles, r.folder)
		}
		key, err := loadKey(r.path(name))
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// ID is the publisher that the keyring is for.
func (r *Keyring) ID() shared.PublisherID { return r.Chain().ID }

// Chain are the root documents as they are known here.
func (r *Keyring) Chain() Chain {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.chain
}

// Made tells whether somebody has chosen the root documents, by [Keyring.SetChain].
func (r *Keyring) Made() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.made
}

// Keys are all keys that are held, of whatever document.
func (r *Keyring) Keys() []*Key {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.keys)
}

// Holds finds the held private half of a public key, or nil.
func (r *Keyring) Holds(public PublicKey) *Key {
	keys := r.Keys()
	if i := slices.IndexFunc(keys, func(k *Key) bool { return k.Public().Equal(public) }); i >= 0 {
		return keys[i]
	}
	return nil
}

// Signers are the held keys of the newest root document. Errors: UNTRUSTED when they
// are fewer than its threshold.
func (r *Keyring) Signers() ([]*Key, error) { return r.SignersOf(r.Chain().Current()) }

// SignersOf are the held keys of a root document. Errors: UNTRUSTED when they are
// fewer than its threshold.
func (r *Keyring) SignersOf(root Root) ([]*Key, error) {
	var signers []*Key
	for _, public := range root.Keys {
		if key := r.Holds(public); key != nil {
			signers = append(signers, key)
		}
	}
	if len(signers) < root.Threshold {
		return nil, shared.NewError(shared.ReasonUntrusted, "this home holds %d of the keys of root document %d; %d of its %d must sign", len(signers), root.Version, root.Threshold, len(root.Keys)).
			WithHint("import another one: `ggen marketplace key import FILE`; `ggen marketplace key show` lists them")
	}
	return signers, nil
}

// Add keeps a key, durably. A key that is held already is no error. Errors: STORAGE,
// STORAGE_FULL.
func (r *Keyring) Add(key *Key) error {
	if r.Holds(key.Public()) != nil {
		return nil
	}
	if r.folder != "" {
		if err := saveKey(r.path("publisher-"+Fingerprint(key.Public())+".key"), key); err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keys = append(r.keys, key)
	return nil
}

// SetChain makes these the root documents of the keyring, durably. Errors: STORAGE,
// STORAGE_FULL.
func (r *Keyring) SetChain(chain Chain) error {
	if r.folder != "" {
		data, err := json.Marshal(rootsOnDisk{Format: 1, Roots: chain.Signed()})
		if err != nil {
			return err
		}
		if err := replaceFile(r.path(rootsFile), append(bytes.TrimSpace(data), '\n')); err != nil {
			return fileError(err, "write %s", r.path(rootsFile))
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.chain, r.made = chain, true
	return nil
}
