package rpc

import (
	"context"

	"ggen.dev/marketplace/shared"
	"ggen.dev/marketplace/shared/rpc/marketpb"
)

// PublisherKeys implements shared.Keys.
func (c *Client) PublisherKeys(ctx context.Context) (shared.PublisherKeys, error) {
	resp, err := c.marketplace.PublisherKeys(ctx, &marketpb.PublisherKeysRequest{})
	if err != nil {
		return shared.PublisherKeys{}, fromStatus(ctx, err)
	}
	return fromKeys(resp.GetKeys()), nil
}

// MakeKey implements shared.Keys.
func (c *Client) MakeKey(ctx context.Context, passphrase string) (shared.SealedKey, error) {
	resp, err := c.marketplace.MakeKey(ctx, &marketpb.MakeKeyRequest{Passphrase: passphrase})
	if err != nil {
		return shared.SealedKey{}, fromStatus(ctx, err)
	}
	return fromSealed(resp.GetKey()), nil
}

// ExportKey implements shared.Keys.
func (c *Client) ExportKey(ctx context.Context, fingerprint, passphrase string) (shared.SealedKey, error) {
	resp, err := c.marketplace.ExportKey(ctx, &marketpb.ExportKeyRequest{Fingerprint: clean(fingerprint, maxErrorText), Passphrase: passphrase})
	if err != nil {
		return shared.SealedKey{}, fromStatus(ctx, err)
	}
	return fromSealed(resp.GetKey()), nil
}

// ChangeKeys implements shared.Keys.
func (c *Client) ChangeKeys(ctx context.Context, change shared.KeyChange) (shared.KeyReceipt, error) {
	size := 0
	for _, sealed := range change.Sealed {
		size += len(sealed)
	}
	if size > shared.MaxSealedKey {
		return shared.KeyReceipt{}, shared.NewError(shared.ReasonLimitExceeded, "the encrypted keys have %d bytes; %d are allowed", size, shared.MaxSealedKey)
	}
	resp, err := c.marketplace.ChangeKeys(ctx, toKeyChange(change))
	if err != nil {
		return shared.KeyReceipt{}, fromStatus(ctx, err)
	}
	return fromKeyReceipt(resp), nil
}

func (s *marketplaceServer) PublisherKeys(ctx context.Context, _ *marketpb.PublisherKeysRequest) (*marketpb.PublisherKeysResponse, error) {
	keys, err := s.impl.PublisherKeys(ctx)
	return &marketpb.PublisherKeysResponse{Keys: toKeys(keys)}, toStatus(err)
}

func (s *marketplaceServer) MakeKey(ctx context.Context, req *marketpb.MakeKeyRequest) (*marketpb.MakeKeyResponse, error) {
	key, err := s.impl.MakeKey(ctx, req.GetPassphrase())
	return &marketpb.MakeKeyResponse{Key: toSealed(key)}, toStatus(err)
}

func (s *marketplaceServer) ExportKey(ctx context.Context, req *marketpb.ExportKeyRequest) (*marketpb.ExportKeyResponse, error) {
	key, err := s.impl.ExportKey(ctx, req.GetFingerprint(), req.GetPassphrase())
	return &marketpb.ExportKeyResponse{Key: toSealed(key)}, toStatus(err)
}

func (s *marketplaceServer) ChangeKeys(ctx context.Context, req *marketpb.ChangeKeysRequest) (*marketpb.ChangeKeysResponse, error) {
	receipt, err := s.impl.ChangeKeys(ctx, fromKeyChange(req))
	return toKeyReceipt(receipt), toStatus(err)
}

func toKeys(k shared.PublisherKeys) *marketpb.PublisherKeys {
	return &marketpb.PublisherKeys{
		Publisher: string(k.Publisher), Root: int32(k.Root), Threshold: int32(k.Threshold), Recovery: k.Recovery, LogSize: k.LogSize, HeadTime: toTime(k.HeadTime),
		Keys: each(k.Keys, func(s shared.SignerKey) *marketpb.SignerKey {
			return &marketpb.SignerKey{Fingerprint: s.Fingerprint, Public: s.Public, Held: s.Held, Current: s.Current}
		}),
	}
}

func fromKeys(k *marketpb.PublisherKeys) shared.PublisherKeys {
	return shared.PublisherKeys{
		Publisher: shared.PublisherID(k.GetPublisher()), Root: int(k.GetRoot()), Threshold: int(k.GetThreshold()), Recovery: k.GetRecovery(),
		LogSize: k.GetLogSize(), HeadTime: fromTime(k.GetHeadTime()),
		Keys: each(k.GetKeys(), func(s *marketpb.SignerKey) shared.SignerKey {
			return shared.SignerKey{Fingerprint: s.GetFingerprint(), Public: s.GetPublic(), Held: s.GetHeld(), Current: s.GetCurrent()}
		}),
	}
}

func toSealed(k shared.SealedKey) *marketpb.SealedKey {
	return &marketpb.SealedKey{Fingerprint: k.Fingerprint, Public: k.Public, Sealed: k.Sealed}
}

func fromSealed(k *marketpb.SealedKey) shared.SealedKey {
	return shared.SealedKey{Fingerprint: k.GetFingerprint(), Public: k.GetPublic(), Sealed: k.GetSealed()}
}

func toKeyChange(c shared.KeyChange) *marketpb.ChangeKeysRequest {
	return &marketpb.ChangeKeysRequest{
		Action: string(c.Action), Publisher: string(c.Publisher), Sealed: c.Sealed, Passphrase: c.Passphrase, Add: int32(c.Add),
		Include: c.Include, Drop: c.Drop, Threshold: int32(c.Threshold), Recovery: c.Recovery, Keep: c.Keep, DryRun: c.DryRun,
	}
}

func fromKeyChange(c *marketpb.ChangeKeysRequest) shared.KeyChange {
	return shared.KeyChange{
		Action: shared.KeyAction(c.GetAction()), Publisher: shared.PublisherID(c.GetPublisher()), Sealed: c.GetSealed(), Passphrase: c.GetPassphrase(),
		Add: int(c.GetAdd()), Include: c.GetInclude(), Drop: c.GetDrop(), Threshold: int(c.GetThreshold()), Recovery: c.GetRecovery(),
		Keep: c.GetKeep(), DryRun: c.GetDryRun(),
	}
}

func toKeyReceipt(r shared.KeyReceipt) *marketpb.ChangeKeysResponse {
	return &marketpb.ChangeKeysResponse{
		Keys: toKeys(r.Keys), VoidTotal: r.VoidTotal, Announced: int32(r.Announced), Diagnostics: toDiagnostics(r.Diagnostics),
		Void: each(r.Void, func(e shared.LogEntry) *marketpb.LogEntry {
			return &marketpb.LogEntry{Entry: e.Entry, Time: toTime(e.Time), Text: e.Text}
		}),
	}
}

func fromKeyReceipt(r *marketpb.ChangeKeysResponse) shared.KeyReceipt {
	return shared.KeyReceipt{
		Keys: fromKeys(r.GetKeys()), VoidTotal: r.GetVoidTotal(), Announced: int(r.GetAnnounced()), Diagnostics: fromDiagnostics(r.GetDiagnostics()),
		Void: each(r.GetVoid(), func(e *marketpb.LogEntry) shared.LogEntry {
			return shared.LogEntry{Entry: e.GetEntry(), Time: fromTime(e.GetTime()), Text: e.GetText()}
		}),
	}
}
