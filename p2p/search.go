package p2p

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"ggen.dev/marketplace/p2p/catalog"
	"ggen.dev/marketplace/p2p/search"
	"ggen.dev/marketplace/shared"
)

// Search ranks the packages of the local catalogue; see [shared.Marketplace].
func (e *Engine) Search(ctx context.Context, query shared.SearchQuery) (shared.SearchResult, error) {
	if err := ctx.Err(); err != nil {
		return shared.SearchResult{}, shared.AsError(err)
	}
	if query.Limit < 0 || query.Limit > 1000 || query.Offset < 0 {
		return shared.SearchResult{}, shared.NewError(shared.ReasonInvalidArgument, "limit %d, offset %d: a page has 1 to 1000 results and starts at 0 or later", query.Limit, query.Offset)
	}
	if query.Sort != "" && !slices.Contains(shared.SearchOrders(), query.Sort) {
		return shared.SearchResult{}, shared.NewError(shared.ReasonInvalidArgument, "there is no order %q", query.Sort)
	}
	if !(query.MinReputation >= 0 && query.MinReputation <= 1) {
		return shared.SearchResult{}, shared.NewError(shared.ReasonInvalidArgument, "a least reputation of %v: it lies between 0 and 1", query.MinReputation)
	}
	total, unheard := 0, false
	if e.cfg.Light || e.stillLearning() && e.search.Len() == 0 {
		var err error
		total, err = e.askSearch(ctx, query)
		if unheard = errors.Is(err, shared.ReasonUnavailable); err != nil && !unheard {
			return shared.SearchResult{}, err
		}
	}
	var among map[search.Key]bool
	if query.MinReputation > 0 {
		among = e.heldByReputable(query.MinReputation)
	}
	var result shared.SearchResult
	result.Packages, result.Total = e.search.SearchAmong(query, among)
	if result.Total == 0 && e.stillLearning() {
		if err := e.learn(ctx); err != nil {
			return result, err
		}
		result.Packages, result.Total = e.search.SearchAmong(query, among)
	}
	result.Total = max(result.Total, total)
	if unheard && e.cfg.Light {
		result.Diagnostics = append(result.Diagnostics, shared.Diagnostic{
			Severity: shared.SeverityWarning, Reason: shared.ReasonUnavailable,
			Message: "none of the peers that keep a catalogue has answered: these are the packages that were known before", Hint: "try again in a moment",
		})
	}
	if among != nil {
		result.Diagnostics = append(result.Diagnostics, e.explainAmong(query, result.Total)...)
	} else if strings.TrimSpace(query.Text) != "" {
		e.surveyResults(result.Packages)
	}
	if len(e.node.Connected()) == 0 {
		result.Diagnostics = append(result.Diagnostics, shared.Diagnostic{
			Severity: shared.SeverityWarning, Reason: shared.ReasonNoPeers,
			Message: "no peer is connected: these are the packages that this machine knew before",
			Hint:    connectHint,
		})
	}
	return result, nil
}

// explainAmong looks at what a least reputation has left out: its holders may only not
// be known yet, and are looked up now.
func (e *Engine) explainAmong(query shared.SearchQuery, total int) []shared.Diagnostic {
	packages, all := e.search.Search(query)
	if strings.TrimSpace(query.Text) != "" {
		e.surveyResults(packages)
	}
	if total > 0 || all == 0 {
		return nil
	}
	return []shared.Diagnostic{{
		Severity: shared.SeverityInfo, Message: fmt.Sprintf("%d packages match, and no holder with a reputation of %v is known of any", all, query.MinReputation),
		Hint: "holders become known by installs, and by lookups that searches and `ggen marketplace info` begin: try again in a moment, or lower --min-reputation",
	}}
}

const connectHint = "connect to a peer: `ggen marketplace p2p bootstrap ADDRESS`, or set GGEN_P2P_BOOTSTRAP"

func summaryOf(rel *catalog.Release) shared.PackageSummary {
	return shared.PackageSummary{
		Name: rel.Name, Publisher: rel.Publisher, Version: rel.Version, Title: rel.Title, Description: rel.Description,
		Author: strings.Join(rel.Authors, ", "), Category: rel.Category, License: rel.License, Tags: rel.Tags, PublishedAt: rel.PublishedAt,
	}
}
