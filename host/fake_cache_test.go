package main

import (
	"context"
	"time"

	"ggen.dev/marketplace/shared"
)

const fakePublisher = shared.PublisherID("00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff")

var fakePin = shared.PinnedContent{Name: "greeting", Publisher: fakePublisher, Version: "1.2.0", Since: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), Packages: 2, Bytes: 4096}

// CacheStats are always the same.
func (s *folderSession) CacheStats(ctx context.Context) (shared.CacheStats, error) {
	return shared.CacheStats{
		Tiers: []shared.TierStats{
			{Name: "hot", Entries: 3, Limit: 200, Lifetime: time.Hour, Hits: 9, Misses: 3},
			{Name: "warm", Limit: 2000, Lifetime: 24 * time.Hour, Misses: 3},
			{Name: "cold", Entries: 4, Lifetime: 7 * 24 * time.Hour},
		},
		Limit: 2 << 30, Lifetime: 7 * 24 * time.Hour, Pinned: shared.CacheAmount{Packages: 2, Bytes: 4096}, Other: shared.CacheAmount{Packages: 1, Bytes: 1 << 20},
		Pins: []shared.PinnedContent{fakePin},
	}, s.fault(ctx, "cache")
}

// CleanCache removes one package, and tells of one that stays.
func (s *folderSession) CleanCache(ctx context.Context, req shared.CleanRequest) (shared.CleanReceipt, error) {
	receipt := shared.CleanReceipt{Packages: []shared.CleanedPackage{{Name: "old-one", Publisher: fakePublisher, Version: "0.1.0", Bytes: 1000}}, Bytes: 1200}
	if len(req.Packages) > 0 {
		receipt = shared.CleanReceipt{Diagnostics: []shared.Diagnostic{{Severity: shared.SeverityWarning, Message: req.Packages[0].Name + " stays: it is pinned"}}}
	}
	return receipt, s.fault(ctx, "cache")
}

// VerifyCache finds damage if a file says so.
func (s *folderSession) VerifyCache(ctx context.Context, report shared.ProgressFunc) (shared.CacheReport, error) {
	report.Report(shared.Progress{Phase: shared.PhaseVerify, Done: 1, Total: 2})
	err := s.fault(ctx, "cache")
	if shared.AsError(err) != nil && shared.AsError(err).Reason == shared.ReasonIntegrity {
		return shared.CacheReport{Checked: 2, Bytes: 100, Damaged: []shared.DamagedContent{{Digest: shared.DigestOf([]byte("x")), Name: "greeting", Version: "1.2.0", Own: true}}}, nil
	}
	return shared.CacheReport{Checked: 2, Bytes: 100}, err
}

// PinContent pins whatever is named.
func (s *folderSession) PinContent(ctx context.Context, _ shared.PinRequest, _ shared.ProgressFunc) (shared.PinReceipt, error) {
	return shared.PinReceipt{Packages: []shared.PinnedContent{fakePin}, Fetched: 4096}, s.fault(ctx, "cache")
}

// UnpinContent knows one pin.
func (s *folderSession) UnpinContent(ctx context.Context, ref shared.Ref) ([]shared.PinnedContent, error) {
	if ref.Name != fakePin.Name {
		return nil, shared.NewError(shared.ReasonNotFound, "no content of %s is pinned", ref)
	}
	return []shared.PinnedContent{fakePin}, s.fault(ctx, "cache")
}
