package main

import (
	"context"
	"encoding/base64"
	"time"

	"ggen.dev/marketplace/shared"
)

// PublisherKeys knows one key, or two after a change.
func (s *folderSession) PublisherKeys(ctx context.Context) (shared.PublisherKeys, error) {
	return shared.PublisherKeys{
		Publisher: s.publisher(), Root: 1, Threshold: 1, LogSize: 3, HeadTime: time.Unix(1_700_000_000, 0),
		Keys: []shared.SignerKey{{Fingerprint: "0011223344556677", Public: "a2V5", Held: true, Current: true}},
	}, s.fault(ctx, "key")
}

// MakeKey encrypts nothing.
func (s *folderSession) MakeKey(ctx context.Context, passphrase string) (shared.SealedKey, error) {
	key := shared.SealedKey{Fingerprint: "8899aabbccddeeff", Public: base64.StdEncoding.EncodeToString(make([]byte, 32)), Sealed: []byte("sealed with " + passphrase + "\n")}
	return key, s.fault(ctx, "key")
}

// ExportKey makes one.
func (s *folderSession) ExportKey(ctx context.Context, _, passphrase string) (shared.SealedKey, error) {
	return s.MakeKey(ctx, passphrase)
}

// ChangeKeys says what was asked for.
func (s *folderSession) ChangeKeys(ctx context.Context, change shared.KeyChange) (shared.KeyReceipt, error) {
	keys, err := s.PublisherKeys(ctx)
	if err != nil {
		return shared.KeyReceipt{}, err
	}
	keys.Root, keys.Recovery = 2, change.Recovery
	keys.Keys = append(keys.Keys, shared.SignerKey{Fingerprint: "8899aabbccddeeff", Public: "a2V5Mg=="})
	receipt := shared.KeyReceipt{Keys: keys, Announced: 2}
	if change.Action == shared.KeyRecover {
		if string(change.Sealed[0]) != "sealed with "+change.Passphrase+"\n" {
			return shared.KeyReceipt{}, shared.NewError(shared.ReasonInvalidArgument, "the passphrase does not open this key")
		}
		receipt.VoidTotal = 1
		receipt.Void = []shared.LogEntry{{Entry: 2, Time: time.Unix(1_700_000_000, 0).UTC(), Text: "release app@6.6.6"}}
	}
	return receipt, nil
}
