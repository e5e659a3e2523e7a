package publisher

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"ggen.dev/marketplace/shared"
)

// Limits on root documents.
const (
	MaxRootSize = 8 << 10 // bytes of a signed root document
	MaxRoots    = 64      // documents in a chain: one rotation a year for a long life
	MaxKeys     = 16      // keys in one document
)

// Root says which keys speak for a publisher. Root documents form a chain: each
// is signed by the threshold of its own keys and, from the second on, by the
// threshold of the previous document's keys (the rule of The Update Framework,
// section 5.3) or, instead, by the previous document's recovery key. The
// publisher's ID is the hash of the first document.
//
// Every document but the first says what of the log stands: what the keys before it
// have signed beyond that is void, so that they can sign nothing new. Where two chains
// part, a recovery wins over a document that is none, however long the other chain is:
// whoever stole the ordinary keys cannot outrun whoever has the recovery key.
type Root struct {
	Format    int      `json:"v"`       // 1
	Version   int      `json:"version"` // 1, 2, 3…
	Keys      [][]byte `json:"keys"`    // Ed25519, no duplicates
	Threshold int      `json:"threshold"`
	Recovery  []byte   `json:"recovery,omitempty"` // SHA-256 of a public key whose private half is kept offline
	Recovers  bool     `json:"recovers,omitempty"` // the recovery key before has signed
	Keep      *Keep    `json:"keep,omitempty"`     // what of the log stands; of all but the first

	signed json.RawMessage // the exact bytes that are hashed and signed
}

// Keep is what of a log stands: its first Size entries, whose tree has this hash.
type Keep struct {
	Size int64     `json:"size"`
	Hash tlog.Hash `json:"hash"`
}

// signedRoot is the wire form.
type signedRoot struct {
	Root       []byte   `json:"root"`
	Signatures [][]byte `json:"signatures"` // 32 bytes of key, 64 of signature
}

// rootContext separates signatures over roots from all others (RFC 8032 §8.3).
const rootContext = "ggen root document v1\n"

// NewRoot makes the first root document of a publisher whose only key is key,
// in its signed form. It is the same every time.
func NewRoot(key *Key) ([]byte, error) {
	return SignRoot(Root{Version: 1, Keys: [][]byte{key.Public()}, Threshold: 1}, key)
}

// SignRoot gives a root document its signed form. It signs what it is given; whether
// that follows the document before, [ParseChain] says.
func SignRoot(root Root, signers ...*Key) ([]byte, error) {
	root.Format = 1
	body, err := json.Marshal(root)
	if err != nil {
		return nil, fmt.Errorf("encode root document: %w", err)
	}
	signed := signedRoot{Root: body}
	for _, key := range signers {
		signed.Signatures = append(signed.Signatures, append(bytes.Clone(key.Public()), key.sign(append([]byte(rootContext), body...))...))
	}
	return json.Marshal(signed)
}

// RecoveryHash is how a root document names a recovery key.
func RecoveryHash(public PublicKey) []byte {
	sum := sha256.Sum256(public)
	return sum[:]
}

// RecoveryFingerprint is the [Fingerprint] of the recovery key of a root document;
// empty if it has none.
func RecoveryFingerprint(root Root) string {
	if len(root.Recovery) == 0 {
		return ""
	}
	return hex.EncodeToString(root.Recovery[:8])
}

// Chain is a verified chain of root documents.
type Chain struct {
	ID     shared.PublisherID
	Roots  []Root
	signed [][]byte
}

// ParseChain verifies a chain from the first document on.
func ParseChain(signed [][]byte) (Chain, error) {
	if len(signed) == 0 || len(signed) > MaxRoots {
		return Chain{}, invalid("%d root documents", len(signed))
	}
	chain := Chain{signed: make([][]byte, len(signed))}
	for i, data := range signed {
		data = bytes.Clone(data) // it is kept, and the caller's buffer is not ours
		chain.signed[i] = data
		root, signers, err := parseRoot(data)
		if err != nil {
			return Chain{}, err
		}
		if root.Version != i+1 {
			return Chain{}, invalid("root document %d says it is number %d", i+1, root.Version)
		}
		if !root.satisfiedBy(signers) {
			return Chain{}, invalid("root document %d is not signed by its own keys", root.Version)
		}
		if err := chain.follows(root, signers); err != nil {
			return Chain{}, err
		}
		chain.Roots = append(chain.Roots, root)
	}
	chain.ID = shared.PublisherID(shared.DigestOf(chain.Roots[0].signed).Hex())
	return chain, nil
}

// RecallChain is [ParseChain] for those who hold chains: one that known has of the same
// publisher, with the same bytes, was verified before, which is not done twice.
func RecallChain(signed [][]byte, known func(shared.PublisherID) Chain) (Chain, error) {
	var first signedRoot
	if len(signed) > 0 && len(signed[0]) <= MaxRootSize && json.Unmarshal(signed[0], &first) == nil {
		if chain := known(shared.PublisherID(shared.DigestOf(first.Root).Hex())); chain.Is(signed) {
			return chain, nil
		}
	}
	return ParseChain(signed)
}

// Is tells whether these are the documents of the chain, to the byte.
func (c Chain) Is(signed [][]byte) bool {
	return len(signed) > 0 && slices.EqualFunc(c.signed, signed, bytes.Equal)
}

// follows checks that the document before root, if there is one, vouches for it.
func (c Chain) follows(root Root, signers [][]byte) error {
	switch {
	case (root.Keep == nil) != (len(c.Roots) == 0), root.Recovers && len(c.Roots) == 0:
		return invalid("root document %d has no word on the log, or one that it cannot have", root.Version)
	case len(c.Roots) == 0:
		return nil
	case !root.Recovers && !c.Current().satisfiedBy(signers):
		return invalid("root document %d is not signed by the keys before it", root.Version)
	case root.Recovers && !c.Current().recoveredBy(signers):
		return invalid("root document %d recovers and is not signed by the recovery key", root.Version)
	}
	return nil
}

// Current is the newest root document.
func (c Chain) Current() Root { return c.Roots[len(c.Roots)-1] }

// DigestOf is the hash of what the keys of a document have signed; that of the first
// one is the publisher's ID.
func (c Chain) DigestOf(document int) shared.Digest { return shared.DigestOf(c.Roots[document].signed) }

// Signed are the documents as they travel.
func (c Chain) Signed() [][]byte { return c.signed }

// Continues tells whether c begins with all documents of old.
func (c Chain) Continues(old Chain) bool { return c.Common(old) == len(old.Roots) }

// supersedes tells whether c takes the place of old: where they part, only c's
// document is a recovery.
func (c Chain) supersedes(old Chain) bool {
	i := c.Common(old)
	return c.ID == old.ID && i < len(c.Roots) && i < len(old.Roots) && c.Roots[i].Recovers && !old.Roots[i].Recovers
}

// Common counts the documents with which both chains begin.
func (c Chain) Common(old Chain) int {
	i := 0
	for i < min(len(c.Roots), len(old.Roots)) && bytes.Equal(c.Roots[i].signed, old.Roots[i].signed) {
		i++
	}
	return i
}

// Replaces tells whether c is to be believed instead of old, of which it may be the
// continuation, and the least that its documents since then let stand of the log.
func (c Chain) Replaces(old Chain) (Keep, bool) {
	common := c.Common(old)
	if old.ID != c.ID || common == len(c.Roots) || !c.Continues(old) && !c.supersedes(old) {
		return Keep{}, false
	}
	least := c.Roots[common].Keep
	for _, root := range c.Roots[common:] {
		if root.Keep.Size < least.Size {
			least = root.Keep
		}
	}
	return *least, true
}

// Order is a string that is greater for the chain that is to be believed, of one
// publisher's: see [Root]. Of two that part in documents of one kind, which is a
// fault of their publisher, it prefers one of them, always the same.
func (c Chain) Order() string {
	order := make([]byte, 0, len(c.Roots))
	for _, root := range c.Roots {
		if root.Recovers {
			order = append(order, 'r')
		} else {
			order = append(order, 'o')
		}
	}
	return string(order)
}

// parseRoot reads one document and lists the keys whose signatures on it hold.
func parseRoot(data []byte) (Root, [][]byte, error) {
	if len(data) > MaxRootSize {
		return Root{}, nil, invalid("a root document has %d bytes; %d are allowed", len(data), MaxRootSize)
	}
	var envelope signedRoot
	if err := strictJSON(data, &envelope); err != nil {
		return Root{}, nil, invalid("root document: %w", err)
	}
	var root Root
	if err := strictJSON(envelope.Root, &root); err != nil {
		return Root{}, nil, invalid("root document: %w", err)
	}
	root.signed = envelope.Root
	if root.Format > 1 {
		return Root{}, nil, stale("a root document of format %d, which only newer versions of this program know", root.Format)
	}
	if root.Format != 1 || len(root.Keys) == 0 || len(root.Keys) > MaxKeys || root.Threshold < 1 || root.Threshold > len(root.Keys) ||
		len(envelope.Signatures) > 2*MaxKeys+1 || (len(root.Recovery) != 0 && len(root.Recovery) != 32) {
		return Root{}, nil, invalid("root document: format %d, %d keys, threshold %d", root.Format, len(root.Keys), root.Threshold)
	}
	if root.Keep != nil && (root.Keep.Size < 0 || root.Keep.Size > MaxLogSize) {
		return Root{}, nil, invalid("root document: it keeps %d entries", root.Keep.Size)
	}
	for i, key := range root.Keys {
		if len(key) != ed25519.PublicKeySize || slices.ContainsFunc(root.Keys[:i], func(k []byte) bool { return bytes.Equal(k, key) }) {
			return Root{}, nil, invalid("root document: key %d", i)
		}
	}
	message := append([]byte(rootContext), envelope.Root...)
	var signers [][]byte
	for _, s := range envelope.Signatures {
		if len(s) == ed25519.PublicKeySize+ed25519.SignatureSize && ed25519.Verify(s[:ed25519.PublicKeySize], message, s[ed25519.PublicKeySize:]) {
			signers = append(signers, s[:ed25519.PublicKeySize])
		}
	}
	return root, signers, nil
}

// satisfiedBy tells whether enough different keys of r are among the signers.
func (r Root) satisfiedBy(signers [][]byte) bool {
	count := 0
	for _, key := range r.Keys {
		if slices.ContainsFunc(signers, func(s []byte) bool { return bytes.Equal(s, key) }) {
			count++
		}
	}
	return count >= r.Threshold
}

// recoveredBy tells whether the recovery key of r is among the signers.
func (r Root) recoveredBy(signers [][]byte) bool {
	return len(r.Recovery) > 0 && slices.ContainsFunc(signers, func(s []byte) bool { return bytes.Equal(RecoveryHash(s), r.Recovery) })
}

// IDOf is the ID of the publisher whose first root document is [NewRoot] of key.
func IDOf(key *Key) (shared.PublisherID, error) {
	root, err := NewRoot(key)
	if err != nil {
		return "", err
	}
	chain, err := ParseChain([][]byte{root})
	return chain.ID, err
}
