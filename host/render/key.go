package render

import (
	"fmt"
	"time"

	"ggen.dev/marketplace/shared"
)

// SignerKey is a key of a publisher.
type SignerKey struct {
	Fingerprint string `json:"fingerprint"` // first 16 hex digits of the SHA-256 of the public key
	PublicKey   string `json:"public_key"`  // Ed25519, base64
	Held        bool   `json:"held"`        // its private half is on this machine
	Current     bool   `json:"current"`     // it may sign; false for one that was replaced
}

// Keys are the keys of this machine's publisher.
type Keys struct {
	Publisher shared.PublisherID `json:"publisher"`           // its ID
	Root      int                `json:"root"`                // number of the newest root document
	Threshold int                `json:"threshold"`           // how many of the current keys must sign
	Keys      []SignerKey        `json:"keys"`                // the current ones first
	Recovery  string             `json:"recovery"`            // fingerprint of the recovery key; empty if there is none
	LogSize   int64              `json:"log_size"`            // entries of the publisher's log
	HeadTime  *time.Time         `json:"head_time,omitempty"` // when its head was signed; absent before the first entry
}

// NewKeys takes over a list.
func NewKeys(k shared.PublisherKeys) Keys {
	doc := Keys{
		Publisher: k.Publisher, Root: k.Root, Threshold: k.Threshold, Keys: []SignerKey{}, Recovery: k.Recovery, LogSize: k.LogSize, HeadTime: stamp(k.HeadTime),
	}
	for _, key := range k.Keys {
		doc.Keys = append(doc.Keys, SignerKey{key.Fingerprint, key.Public, key.Held, key.Current})
	}
	return doc
}

// Text implements [Document].
func (d Keys) Text(p *Page) {
	recovery := d.Recovery
	if recovery == "" {
		recovery = "none: whoever steals a key has the publisher for good; make one with `key rotate --recovery-file FILE`"
	}
	current := 0
	rows := make([][]string, 0, len(d.Keys))
	for _, key := range d.Keys {
		state, where := "replaced", "elsewhere"
		if key.Current {
			state = "signs"
			current++
		}
		if key.Held {
			where = "here"
		}
		rows = append(rows, []string{key.Fingerprint, state, where, key.PublicKey})
	}
	p.Fields(
		"publisher", string(d.Publisher),
		"root document", fmt.Sprintf("%d: %d of %s must sign", d.Root, d.Threshold, plural(current, "key", "keys")),
		"recovery key", recovery,
		"log", plural(int(d.LogSize), "entry", "entries"),
	)
	p.Table([]string{"KEY", "STATE", "HELD", "PUBLIC KEY"}, rows)
}

// LogEntry is an entry of a publisher's log.
type LogEntry struct {
	Entry int64     `json:"entry"` // position, from 0
	Time  time.Time `json:"time"`  // the publisher's clock
	Text  string    `json:"text"`  // what it states
}

// ChangedKeys is the result of a change of keys.
type ChangedKeys struct {
	Keys

	Action       shared.KeyAction `json:"action"`                  // init, rotate, import or recover
	DryRun       bool             `json:"dry_run,omitempty"`       // nothing was changed
	RecoveryFile string           `json:"recovery_file,omitempty"` // that the new recovery key was written to
	Void         []LogEntry       `json:"void,omitempty"`          // the first entries that a recovery makes void
	VoidTotal    int64            `json:"void_total"`              // how many there are in all
	Announced    int              `json:"announced"`               // peers that were told
	Diagnostics  []Remark         `json:"diagnostics,omitempty"`   // remarks beside the result
}

// NewChangedKeys takes over a receipt.
func NewChangedKeys(c shared.KeyChange, r shared.KeyReceipt, recoveryFile string) ChangedKeys {
	doc := ChangedKeys{
		Keys: NewKeys(r.Keys), Action: c.Action, DryRun: c.DryRun, RecoveryFile: recoveryFile,
		VoidTotal: r.VoidTotal, Announced: r.Announced, Diagnostics: remarks(r.Diagnostics),
	}
	for _, entry := range r.Void {
		doc.Void = append(doc.Void, LogEntry(entry))
	}
	return doc
}

// Text implements [Document].
func (d ChangedKeys) Text(p *Page) {
	if d.DryRun {
		p.Line("Dry run, nothing was changed. It would be:")
	}
	d.Keys.Text(p)
	if d.VoidTotal > 0 {
		p.Line("Void, because it was signed after what is kept: %s.", plural(int(d.VoidTotal), "entry", "entries"))
		rows := make([][]string, 0, len(d.Void))
		for _, entry := range d.Void {
			rows = append(rows, []string{fmt.Sprint(entry.Entry), day(entry.Time), entry.Text})
		}
		p.Table([]string{"ENTRY", "DATE", "STATES"}, rows)
	}
	if d.RecoveryFile != "" {
		p.Line("The recovery key is in %s and nowhere else: move it off this machine.", d.RecoveryFile)
	}
}

// SealedKey is the result of writing a key to a file.
type SealedKey struct {
	Fingerprint string `json:"fingerprint"` // first 16 hex digits of the SHA-256 of the public key
	PublicKey   string `json:"public_key"`  // Ed25519, base64
	File        string `json:"file"`        // that the encrypted key was written to
}

// NewSealedKey takes over a key.
func NewSealedKey(k shared.SealedKey, file string) SealedKey {
	return SealedKey{k.Fingerprint, k.Public, file}
}

// Text implements [Document].
func (d SealedKey) Text(p *Page) {
	p.Line("Key %s is in %s, encrypted with the passphrase.", d.Fingerprint, d.File)
	p.Line("Public key: %s", d.PublicKey)
}
