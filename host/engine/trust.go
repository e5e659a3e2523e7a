package engine

import (
	"context"

	"ggen.dev/marketplace/shared"
)

// Pins implements shared.Trust.
func (s *Session) Pins(ctx context.Context) ([]shared.Pin, error) {
	return call(ctx, s, shortCall, func(ctx context.Context, _ *watchdog, m shared.Marketplace) ([]shared.Pin, error) { return m.Pins(ctx) })
}

// SetPin implements shared.Trust. When it is repeated, the former pin may be
// the new one.
func (s *Session) SetPin(ctx context.Context, name string, publisher shared.PublisherID) (shared.Pin, error) {
	return call(ctx, s, shortCall, func(ctx context.Context, _ *watchdog, m shared.Marketplace) (shared.Pin, error) {
		return m.SetPin(ctx, name, publisher)
	})
}

// Explain implements shared.Trust.
func (s *Session) Explain(ctx context.Context, name string) (shared.TrustReport, error) {
	return call(ctx, s, shortCall, func(ctx context.Context, _ *watchdog, m shared.Marketplace) (shared.TrustReport, error) {
		return m.Explain(ctx, name)
	})
}

// TrustCatalogues implements shared.Trust.
func (s *Session) TrustCatalogues(ctx context.Context) ([]shared.TrustCatalogue, error) {
	return call(ctx, s, shortCall, func(ctx context.Context, _ *watchdog, m shared.Marketplace) ([]shared.TrustCatalogue, error) {
		return m.TrustCatalogues(ctx)
	})
}

// AddTrustCatalogue implements shared.Trust. Repeating it
// adds the same issue again, which changes nothing.
func (s *Session) AddTrustCatalogue(ctx context.Context, signed []byte) (shared.TrustCatalogue, error) {
	return call(ctx, s, shortCall, func(ctx context.Context, _ *watchdog, m shared.Marketplace) (shared.TrustCatalogue, error) {
		return m.AddTrustCatalogue(ctx, signed)
	})
}

// RemoveTrustCatalogue implements shared.Trust. When it is
// repeated, the catalogue may be gone already: that is NOT_FOUND.
func (s *Session) RemoveTrustCatalogue(ctx context.Context, signer shared.PublisherID, title string) (shared.TrustCatalogue, error) {
	return call(ctx, s, shortCall, func(ctx context.Context, _ *watchdog, m shared.Marketplace) (shared.TrustCatalogue, error) {
		return m.RemoveTrustCatalogue(ctx, signer, title)
	})
}

// SignTrustCatalogue implements shared.Trust.
func (s *Session) SignTrustCatalogue(ctx context.Context, draft shared.TrustCatalogue) ([]byte, error) {
	return call(ctx, s, shortCall, func(ctx context.Context, _ *watchdog, m shared.Marketplace) ([]byte, error) {
		return m.SignTrustCatalogue(ctx, draft)
	})
}

// ForkProof implements shared.Trust.
func (s *Session) ForkProof(ctx context.Context, publisher shared.PublisherID) ([]byte, error) {
	return call(ctx, s, shortCall, func(ctx context.Context, _ *watchdog, m shared.Marketplace) ([]byte, error) {
		return m.ForkProof(ctx, publisher)
	})
}

// CheckForkProof implements shared.Trust.
func (s *Session) CheckForkProof(ctx context.Context, proof []byte) (shared.ForkVerdict, error) {
	return call(ctx, s, shortCall, func(ctx context.Context, _ *watchdog, m shared.Marketplace) (shared.ForkVerdict, error) {
		return m.CheckForkProof(ctx, proof)
	})
}
