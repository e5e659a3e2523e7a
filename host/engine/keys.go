package engine

import (
	"context"
	"errors"

	"ggen.dev/marketplace/shared"
)

// PublisherKeys implements shared.Keys.
func (s *Session) PublisherKeys(ctx context.Context) (shared.PublisherKeys, error) {
	return call(ctx, s, shortCall, func(ctx context.Context, _ *watchdog, m shared.Marketplace) (shared.PublisherKeys, error) {
		return m.PublisherKeys(ctx)
	})
}

// MakeKey implements shared.Keys.
func (s *Session) MakeKey(ctx context.Context, passphrase string) (shared.SealedKey, error) {
	return call(ctx, s, shortCall, func(ctx context.Context, _ *watchdog, m shared.Marketplace) (shared.SealedKey, error) {
		return m.MakeKey(ctx, passphrase)
	})
}

// ExportKey implements shared.Keys.
func (s *Session) ExportKey(ctx context.Context, fingerprint, passphrase string) (shared.SealedKey, error) {
	return call(ctx, s, shortCall, func(ctx context.Context, _ *watchdog, m shared.Marketplace) (shared.SealedKey, error) {
		return m.ExportKey(ctx, fingerprint, passphrase)
	})
}

// ChangeKeys implements shared.Keys. It is not repeated when the engine dies under it:
// it may have happened.
func (s *Session) ChangeKeys(ctx context.Context, change shared.KeyChange) (shared.KeyReceipt, error) {
	asked := false
	return call(ctx, s, shortCall, func(ctx context.Context, _ *watchdog, m shared.Marketplace) (receipt shared.KeyReceipt, err error) {
		if asked {
			return receipt, shared.NewError(shared.ReasonEngineFailed, "the engine ended while the keys were changed").
				WithHint("`ggen marketplace key show` says whether the new ones count; if not, run the command again")
		}
		receipt, err = m.ChangeKeys(ctx, change)
		asked = !errors.Is(err, shared.ReasonEngineDraining)
		return receipt, err
	})
}
