package manifest

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"ggen.dev/marketplace/p2p/publisher"
	"ggen.dev/marketplace/shared"
)

// Limits on what is said about one package: who has more to mend reads the first and
// looks again. Together they fit into one message between engine and host.
const (
	maxFindings = 100
	maxMessage  = 1 << 10 // bytes; longer ones are cut
	maxFix      = 4 << 10 // bytes; some quote lines of the manifest
)

// asError is the INVALID_MANIFEST error that says the same.
func asError(f shared.Finding) *shared.Error {
	err := shared.NewError(shared.ReasonInvalidManifest, "%s: %s", f.Where(), f.Message).With("file", f.File)
	if f.Fix != "" {
		err = err.WithHint("%s", f.Fix)
	}
	if f.Line > 0 {
		err = err.With("line", strconv.Itoa(f.Line)).With("column", strconv.Itoa(f.Column))
	}
	return err
}

// fromError is the finding that says the same as an error of this package.
func fromError(rule string, err error) shared.Finding {
	typed := shared.AsError(err)
	return shared.Finding{Severity: shared.SeverityError, Rule: rule, File: typed.Metadata["file"], Message: typed.Message, Fix: typed.Hint}
}

// firstError returns the first finding that forbids publishing, if any, and says how
// to see the others.
func firstError(findings []shared.Finding) error {
	var first *shared.Error
	count := 0
	for _, f := range findings {
		if f.Severity == shared.SeverityError {
			if count++; count == 1 {
				first = asError(f)
			}
		}
	}
	switch {
	case first == nil:
		return nil
	case count > 1:
		first = first.WithHint("%s", strings.TrimPrefix(fmt.Sprintf("%s; `ggen marketplace package lint` tells all %d mistakes", first.Hint, count), "; "))
	}
	return first
}

// sorted orders findings by place, those of one place as they came, and bounds them.
// Errors are the last to go: without them the package would seem right.
func sorted(findings []shared.Finding) []shared.Finding {
	if len(findings) > maxFindings {
		slices.SortStableFunc(findings, func(a, b shared.Finding) int {
			return cmp.Compare(rank(a.Severity), rank(b.Severity))
		})
		findings = findings[:maxFindings]
	}
	slices.SortStableFunc(findings, func(a, b shared.Finding) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	for i := range findings {
		findings[i].Message = publisher.CutText(findings[i].Message, maxMessage)
		findings[i].Fix = publisher.CutText(findings[i].Fix, maxFix)
	}
	return findings
}

func rank(severity shared.Severity) int {
	return slices.Index([]shared.Severity{shared.SeverityError, shared.SeverityWarning, shared.SeverityInfo}, severity)
}
