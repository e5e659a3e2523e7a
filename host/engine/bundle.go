package engine

import (
	"context"

	"ggen.dev/marketplace/shared"
)

// Export implements shared.Bundles. Repeating it writes the file again.
func (s *Session) Export(ctx context.Context, req shared.ExportRequest, report shared.ProgressFunc) (shared.ExportReceipt, error) {
	return call(ctx, s, stallLimit, func(ctx context.Context, w *watchdog, m shared.Marketplace) (shared.ExportReceipt, error) {
		return m.Export(ctx, req, w.report(report))
	})
}

// Import implements shared.Bundles. Repeating it finds what is here already.
func (s *Session) Import(ctx context.Context, file string, report shared.ProgressFunc) (shared.ImportReceipt, error) {
	return call(ctx, s, stallLimit, func(ctx context.Context, w *watchdog, m shared.Marketplace) (shared.ImportReceipt, error) {
		return m.Import(ctx, file, w.report(report))
	})
}

// Prove implements shared.Bundles.
func (s *Session) Prove(ctx context.Context, ref shared.Ref, file string) (shared.Provenance, error) {
	return call(ctx, s, shortCall, func(ctx context.Context, _ *watchdog, m shared.Marketplace) (shared.Provenance, error) {
		return m.Prove(ctx, ref, file)
	})
}
