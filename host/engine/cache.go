package engine

import (
	"context"

	"ggen.dev/marketplace/shared"
)

// CacheStats implements shared.Cache.
func (s *Session) CacheStats(ctx context.Context) (shared.CacheStats, error) {
	return call(ctx, s, shortCall, func(ctx context.Context, _ *watchdog, m shared.Marketplace) (shared.CacheStats, error) {
		return m.CacheStats(ctx)
	})
}

// CleanCache implements shared.Cache. When it is repeated, what the first one has removed
// may be missing in the receipt.
func (s *Session) CleanCache(ctx context.Context, req shared.CleanRequest) (shared.CleanReceipt, error) {
	return call(ctx, s, stallLimit, func(ctx context.Context, _ *watchdog, m shared.Marketplace) (shared.CleanReceipt, error) {
		return m.CleanCache(ctx, req)
	})
}

// VerifyCache implements shared.Cache. When it is repeated, what the first one has dropped
// may be missing in the report.
func (s *Session) VerifyCache(ctx context.Context, report shared.ProgressFunc) (shared.CacheReport, error) {
	return call(ctx, s, stallLimit, func(ctx context.Context, w *watchdog, m shared.Marketplace) (shared.CacheReport, error) {
		return m.VerifyCache(ctx, w.report(report))
	})
}

// PinContent implements shared.Cache. Repeating it finds what is here already.
func (s *Session) PinContent(ctx context.Context, req shared.PinRequest, report shared.ProgressFunc) (shared.PinReceipt, error) {
	return call(ctx, s, stallLimit, func(ctx context.Context, w *watchdog, m shared.Marketplace) (shared.PinReceipt, error) {
		return m.PinContent(ctx, req, w.report(report))
	})
}

// UnpinContent implements shared.Cache. When it is repeated, it may find that the first
// one has been done.
func (s *Session) UnpinContent(ctx context.Context, ref shared.Ref) ([]shared.PinnedContent, error) {
	return call(ctx, s, shortCall, func(ctx context.Context, _ *watchdog, m shared.Marketplace) ([]shared.PinnedContent, error) {
		return m.UnpinContent(ctx, ref)
	})
}
