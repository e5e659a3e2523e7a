package shared

import (
	"context"
	"time"
)

// MaxSealedKey bounds an encrypted key in bytes.
const MaxSealedKey = 512 << 10

// Keys is the part of a [Marketplace] that looks after the keys which sign what this
// node publishes. Private keys leave it encrypted with a passphrase, or not at all.
type Keys interface {
	// PublisherKeys tells who publishes from here, and with which keys.
	PublisherKeys(ctx context.Context) (PublisherKeys, error)

	// MakeKey makes a key that is kept nowhere but in the answer: a recovery key, or
	// one for another home. Reasons: INVALID_ARGUMENT for a passphrase that is too short.
	MakeKey(ctx context.Context, passphrase string) (SealedKey, error)

	// ExportKey encrypts a key that is held here; fingerprint may be empty if there is
	// one alone. What is exported brings the publisher along. Reasons:
	// INVALID_ARGUMENT, NOT_FOUND, AMBIGUOUS.
	ExportKey(ctx context.Context, fingerprint, passphrase string) (SealedKey, error)

	// ChangeKeys changes who may sign for the publisher, durably, and tells the network.
	// Reasons: INVALID_ARGUMENT, UNTRUSTED when the keys that are here are not enough,
	// NOT_FOUND, STORAGE, STORAGE_FULL.
	ChangeKeys(ctx context.Context, change KeyChange) (KeyReceipt, error)
}

// PublisherKeys are the keys of this node's publisher.
type PublisherKeys struct {
	Publisher PublisherID
	Root      int         // number of the newest root document, from 1
	Threshold int         // how many of the current keys must sign
	Keys      []SignerKey // those of the newest document first, then retired ones
	Recovery  string      // fingerprint of the recovery key; empty if there is none
	LogSize   int64       // entries of the publisher's log
	HeadTime  time.Time   // when its head was signed; zero if there is none
}

// SignerKey is a key that a root document lists, or that is held without.
type SignerKey struct {
	Fingerprint string // first 16 hex digits of the SHA-256 of the public key
	Public      string // base64
	Held        bool   // its private half is here
	Current     bool   // the newest root document lists it
}

// SealedKey is an encrypted private key and its public half.
type SealedKey struct {
	Fingerprint string
	Public      string // base64
	Sealed      []byte // an armored age file
}

// KeyAction is a kind of [KeyChange].
type KeyAction string

// What can be done to keys.
const (
	// KeyInit begins a publisher, as long as nothing was published from here.
	KeyInit KeyAction = "init"
	// KeyRotate makes a new root document, signed by the present keys.
	KeyRotate KeyAction = "rotate"
	// KeyImport takes keys from other homes, and their publisher if nothing was
	// published from here.
	KeyImport KeyAction = "import"
	// KeyRecover makes a new root document, signed by the recovery key, and makes void
	// what was signed after Keep.
	KeyRecover KeyAction = "recover"
)

// KeyChange is a change of a publisher's keys.
type KeyChange struct {
	Action     KeyAction
	Publisher  PublisherID // of KeyRecover: whose; empty: this home's
	Sealed     [][]byte    // of KeyImport: the keys; of KeyRecover: the recovery key
	Passphrase string      // opens Sealed

	Add       int      // new keys to make here
	Include   []string // public keys (base64) of other homes to list
	Drop      []string // fingerprints to leave out; "*" is every one
	Threshold int      // 0: as it was, or as many as there are keys now if those are fewer
	Recovery  string   // public key (base64) of the new recovery key; empty: as it was; "-": none

	Keep   int64 // of KeyRecover: entries of the log that stand; negative: all that are here
	DryRun bool  // only say what would be
}

// KeyReceipt says what a [KeyChange] has done.
type KeyReceipt struct {
	Keys        PublisherKeys
	Void        []LogEntry // entries that the recovery makes void, as far as they are here; at most 100
	VoidTotal   int64
	Announced   int // peers that were told
	Diagnostics []Diagnostic
}

// LogEntry is an entry of a publisher's log in words.
type LogEntry struct {
	Entry int64
	Time  time.Time // the publisher's clock
	Text  string
}
