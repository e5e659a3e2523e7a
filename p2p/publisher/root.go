package publisher

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"slices"

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
// section 5.3). The publisher's ID is the hash of the first document.
type Root struct {
	Format    int             `json:"v"`       // 1
	Version   int             `json:"version"` // 1, 2, 3…
	Keys      [][]byte        `json:"keys"`    // Ed25519, no duplicates
	Threshold int             `json:"threshold"`
	Recovery  []byte          `json:"recovery,omitempty"` // SHA-256 of an offline key, for later use
	signed    json.RawMessage // the exact bytes that are hashed and signed
}

// signedRoot is the wire form.
type signedRoot struct {
	Root       []byte   `json:"root"`
	Signatures [][]byte `json:"signatures"` // 32 bytes of key, 64 of signature
}

// rootContext separates signatures over roots from all others (RFC 8032 §8.3).
const rootContext = "ggen root document v1\n"

// NewRoot makes the first root document of a publisher whose only key is key,
// in its signed form.
func NewRoot(key *Key) ([]byte, error) {
	body, err := json.Marshal(Root{Format: 1, Version: 1, Keys: [][]byte{key.Public()}, Threshold: 1})
	if err != nil {
		return nil, err
	}
	return json.Marshal(signedRoot{Root: body, Signatures: [][]byte{append(bytes.Clone(key.Public()), key.sign(append([]byte(rootContext), body...))...)}})
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
	chain := Chain{signed: signed}
	for i, data := range signed {
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
		if i > 0 && !chain.Roots[i-1].satisfiedBy(signers) {
			return Chain{}, invalid("root document %d is not signed by the keys before it", root.Version)
		}
		chain.Roots = append(chain.Roots, root)
	}
	chain.ID = shared.PublisherID(shared.DigestOf(chain.Roots[0].signed).Hex())
	return chain, nil
}

// Current is the newest root document.
func (c Chain) Current() Root { return c.Roots[len(c.Roots)-1] }

// DigestOf is the hash of what the keys of a document have signed; that of the first
// one is the publisher's ID.
func (c Chain) DigestOf(document int) shared.Digest { return shared.DigestOf(c.Roots[document].signed) }

// Signed are the documents as they travel.
func (c Chain) Signed() [][]byte { return c.signed }

// extends tells whether c begins with all documents of old.
func (c Chain) extends(old Chain) bool {
	return len(c.Roots) >= len(old.Roots) && slices.EqualFunc(c.Roots[:len(old.Roots)], old.Roots, func(a, b Root) bool {
		return bytes.Equal(a.signed, b.signed)
	})
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
		len(envelope.Signatures) > 2*MaxKeys || (len(root.Recovery) != 0 && len(root.Recovery) != 32) {
		return Root{}, nil, invalid("root document: format %d, %d keys, threshold %d", root.Format, len(root.Keys), root.Threshold)
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

// IDOf is the ID of the publisher whose first root document is [NewRoot] of key.
func IDOf(key *Key) (shared.PublisherID, error) {
	root, err := NewRoot(key)
	if err != nil {
		return "", err
	}
	chain, err := ParseChain([][]byte{root})
	return chain.ID, err
}
