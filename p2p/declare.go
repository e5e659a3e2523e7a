package p2p

import (
	"context"

	"ggen.dev/marketplace/p2p/publisher"
	"ggen.dev/marketplace/shared"
)

// Declare states something about a package of this publisher; see
// [shared.Marketplace].
func (e *Engine) Declare(ctx context.Context, s shared.Statement) (receipt shared.DeclareReceipt, err error) {
	if err := ctx.Err(); err != nil {
		return receipt, shared.AsError(err)
	}
	entry, err := entryOf(s)
	if err != nil {
		return receipt, named(err, "%s %s", s.Kind, s.Package)
	}
	size, update, err := e.catalog.Declare(e.ring, entry)
	if err != nil {
		return receipt, named(err, "%s %s", s.Kind, s.Package)
	}
	receipt = shared.DeclareReceipt{Publisher: e.ring.ID(), LogSize: size, Unchanged: update == nil}
	if update == nil {
		return receipt, nil
	}
	e.indexAll(update.Entries)
	told, err := e.announce(ctx, *update)
	if err != nil {
		e.log.WarnContext(ctx, "announce a statement", "kind", s.Kind, "package", s.Package, "error", err) // it is durable, and travels when peers meet
	}
	receipt.Announced = told
	if told == 0 && len(e.node.Connected()) == 0 {
		receipt.Diagnostics = append(receipt.Diagnostics, shared.Diagnostic{
			Severity: shared.SeverityInfo, Reason: shared.ReasonNoPeers,
			Message: "no peer is connected: others learn of it when they connect", Hint: connectHint,
		})
	}
	e.background(func(ctx context.Context) { _, _ = e.routing.PutHead(ctx, e.ring.ID(), e.headRecord(e.ring.ID())) })
	return receipt, nil
}

// entryOf is a statement as the log has it, without publisher and time.
func entryOf(s shared.Statement) (publisher.Entry, error) {
	refused := func(format string, args ...any) (publisher.Entry, error) {
		return publisher.Entry{}, shared.NewError(shared.ReasonInvalidArgument, format, args...)
	}
	yank := publisher.Yank{Name: s.Package, Version: s.Version, Why: s.Why}
	switch s.Kind {
	case shared.StatementYank:
		return publisher.Entry{Kind: publisher.KindYank, Yank: &yank}, nil
	case shared.StatementUnyank:
		return publisher.Entry{Kind: publisher.KindUnyank, Yank: &yank}, nil
	case shared.StatementDeprecate, shared.StatementUndeprecate:
	default:
		return refused("there is no statement %q", s.Kind)
	}
	if s.Version != "" {
		return refused("a package is deprecated as a whole, and not its version %s: yank that", s.Version)
	}
	advice := publisher.Advice{Name: s.Package, Successor: s.Successor, Why: s.Why, Undo: s.Kind == shared.StatementUndeprecate}
	return publisher.Entry{Kind: publisher.KindDeprecate, Advice: &advice}, nil
}

// deprecated is what whoever asks for a deprecated package is told.
func deprecated(name string, d shared.Deprecation) shared.Diagnostic {
	remark := shared.Diagnostic{Severity: shared.SeverityWarning, Message: name + " is deprecated by its publisher"}
	if d.Why != "" {
		remark.Message += ": " + d.Why
	}
	if d.Successor != "" {
		remark.Hint = "use " + d.Successor + " instead"
	}
	return remark
}
