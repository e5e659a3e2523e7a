package publisher

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"runtime"
	"sync"

	"filippo.io/age"
	"filippo.io/age/armor"

	"ggen.dev/marketplace/shared"
)

const (
	// MaxSealed bounds a sealed key in bytes. A chain of 64 documents with a few keys
	// each comes to 100 KB.
	MaxSealed = shared.MaxSealedKey

	// MinPassphrase is the least length of a passphrase in bytes.
	MinPassphrase = 10

	// workFactor is the binary logarithm of scrypt's N (RFC 7914), with r = 8: 64 MiB
	// and about 0.2 s for each guess. Twice that would not fit into the least memory
	// that an engine can be given.
	workFactor = 16

	rootsBlock = "GGEN PUBLISHER ROOTS"
	markBlock  = "GGEN PUBLISHER MARK"
)

// stretching is held while a passphrase is made a key: the memory for two at once may
// be more than the process may have.
var stretching sync.Mutex

// stretch begins to make a passphrase a key, and gives what ends it. The memory of the
// last time is given back first: the collector would still be at it when the kernel
// refuses to map as much again.
func stretch() (done func()) {
	stretching.Lock()
	runtime.GC()
	return stretching.Unlock
}

// Sealed is what a file with an exported key holds.
type Sealed struct {
	Key   *Key
	Chain Chain // of the publisher that the key signs for; empty for a key that is not in use yet
	Mark  Mark  // what had been signed then, without entries
}

// Seal encrypts a key with a passphrase, as an armored age file (age-encryption.org/v1,
// scrypt recipient): the program age opens it, too. What is inside are PEM blocks.
// Errors: INVALID_ARGUMENT for a passphrase that is too short.
func Seal(s Sealed, passphrase string) ([]byte, error) {
	if len(passphrase) < MinPassphrase {
		return nil, shared.NewError(shared.ReasonInvalidArgument, "the passphrase has %d characters; at least %d are needed", len(passphrase), MinPassphrase).
			WithHint("whoever gets the file can try passphrases as fast as they can pay for: take several random words")
	}
	plain, err := s.encode()
	if err != nil {
		return nil, err
	}
	recipient, err := age.NewScryptRecipient(passphrase)
	if err != nil {
		return nil, err
	}
	recipient.SetWorkFactor(workFactor)
	defer stretch()()
	var out bytes.Buffer
	armored := armor.NewWriter(&out)
	sealed, err := age.Encrypt(armored, recipient)
	if err != nil {
		return nil, err
	}
	_, err = sealed.Write(plain)
	if err = errors.Join(err, sealed.Close(), armored.Close()); err != nil {
		return nil, err
	}
	if out.Len() > MaxSealed {
		return nil, shared.NewError(shared.ReasonLimitExceeded, "the encrypted key has %d bytes; %d are allowed", out.Len(), MaxSealed)
	}
	return out.Bytes(), nil
}

// encode is what is encrypted.
func (s Sealed) encode() ([]byte, error) {
	plain := s.Key.encode()
	if s.Chain.ID != "" {
		roots, err := json.Marshal(rootsOnDisk{Format: 1, Roots: s.Chain.Signed()})
		if err != nil {
			return nil, err
		}
		s.Mark.Entries = nil
		marks := marksFile{Format: 1}
		if s.Mark.Size > 0 {
			marks.Marks = []Mark{s.Mark}
		}
		mark, err := json.Marshal(marks)
		if err != nil {
			return nil, err
		}
		plain = append(plain, pem.EncodeToMemory(&pem.Block{Type: rootsBlock, Bytes: roots})...)
		plain = append(plain, pem.EncodeToMemory(&pem.Block{Type: markBlock, Bytes: mark})...)
	}
	return plain, nil
}

// Unseal opens what [Seal] made. It spends at most what sealing costs, whatever the
// file asks for. Errors: INVALID_ARGUMENT for a wrong passphrase or another file.
func Unseal(data []byte, passphrase string) (Sealed, error) {
	refuse := func(err error) (Sealed, error) {
		return Sealed{}, shared.NewError(shared.ReasonInvalidArgument, "this is not a key that was exported here: %w", err).
			WithHint("`ggen marketplace key export` writes such files")
	}
	if len(data) > MaxSealed {
		return refuse(errors.New("it is too long"))
	}
	identity, err := age.NewScryptIdentity(passphrase)
	if err != nil {
		return Sealed{}, shared.NewError(shared.ReasonInvalidArgument, "the passphrase is empty")
	}
	identity.SetMaxWorkFactor(workFactor)
	defer stretch()()
	opened, err := age.Decrypt(armor.NewReader(bytes.NewReader(data)), identity)
	if wrong := new(age.NoIdentityMatchError); errors.As(err, &wrong) {
		return Sealed{}, shared.NewError(shared.ReasonInvalidArgument, "the passphrase does not open this key").
			WithHint("without the passphrase nobody can open it: try to remember, or take another copy of the key")
	}
	if err != nil {
		return refuse(err)
	}
	plain, err := io.ReadAll(io.LimitReader(opened, MaxSealed))
	if err != nil {
		return refuse(err)
	}
	s, err := parseSealed(plain)
	if err != nil {
		return refuse(err)
	}
	return s, nil
}

// parseSealed reads the blocks of a key, its chain and its mark.
func parseSealed(plain []byte) (s Sealed, err error) {
	blocks := map[string][]byte{}
	for block, rest := pem.Decode(plain); block != nil; block, rest = pem.Decode(rest) {
		if blocks[block.Type] != nil {
			return s, errors.New("a block occurs twice")
		}
		blocks[block.Type] = block.Bytes
	}
	if len(blocks[keyBlock]) != ed25519.SeedSize {
		return s, errors.New("no key is in it")
	}
	s.Key = key(blocks[keyBlock])
	if blocks[rootsBlock] == nil {
		return s, nil
	}
	var roots rootsOnDisk
	if err := strictJSON(blocks[rootsBlock], &roots); err != nil {
		return s, err
	}
	if s.Chain, err = ParseChain(roots.Roots); err != nil {
		return s, err
	}
	marks, err := parseMarks(blocks[markBlock])
	if err != nil {
		return s, err
	}
	for _, mark := range marks {
		if mark.Publisher == s.Chain.ID {
			s.Mark = mark
		}
	}
	return s, nil
}
