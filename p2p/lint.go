package p2p

import (
	"context"
	"errors"
	"io"
	"slices"

	"ggen.dev/marketplace/p2p/archive"
	"ggen.dev/marketplace/p2p/manifest"
	"ggen.dev/marketplace/shared"
)

// lint is a dry run of a publish that goes on after a mistake, to tell all of them.
func (e *Engine) lint(ctx context.Context, tree io.Reader) (receipt shared.PublishReceipt, err error) {
	receipt.DryRun = true
	packed, problems, err := archive.Inspect(ctx, tree, e.store.Scratch(), archive.DefaultLimits(), executables)
	switch {
	case err == nil:
	case isMistake(err):
		problems = append(problems, shared.AsError(err))
	default:
		return receipt, named(err, "lint")
	}
	for _, problem := range problems {
		receipt.Findings = append(receipt.Findings, findingOf("files", problem))
	}
	if packed == nil {
		return receipt, nil
	}
	defer func() { err = errors.Join(err, packed.Close()) }()
	var names []string
	for _, f := range packed.Index.Files {
		if !f.Dir {
			names = append(names, f.Path)
		}
	}
	receipt.Findings = append(receipt.Findings, manifest.Lint(names, packed.ReadFile)...)
	for _, name := range packed.Tamed {
		receipt.Findings = append(receipt.Findings, tamed(name))
	}
	if slices.ContainsFunc(receipt.Findings, func(f shared.Finding) bool { return f.Severity == shared.SeverityError }) {
		return receipt, nil
	}
	d, err := e.draft(packed)
	switch {
	case err == nil:
		d.remarks = nil // they are among the findings
		findings := receipt.Findings
		receipt = d.receipt(e.ring.ID())
		receipt.Findings = findings
		d.show(&receipt)
	case isMistake(err):
		receipt.Findings, err = append(receipt.Findings, findingOf("manifest", shared.AsError(err))), nil
	}
	return receipt, err
}

// isMistake tells whether an error is about the package itself.
func isMistake(err error) bool {
	return errors.Is(err, shared.ReasonInvalidPackage) || errors.Is(err, shared.ReasonInvalidManifest) || errors.Is(err, shared.ReasonLimitExceeded)
}

func findingOf(rule string, err *shared.Error) shared.Finding {
	file := err.Metadata["path"]
	if file == "" {
		file = err.Metadata["file"]
	}
	return shared.Finding{Severity: shared.SeverityError, Rule: rule, File: file, Message: err.Message, Fix: err.Hint}
}
