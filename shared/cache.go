package shared

import (
	"context"
	"time"
)

// Cache is the part of a [Marketplace] that is about what a node keeps and remembers of
// packages. What it has published, what is pinned here, and what is installed on this
// machine always stays.
type Cache interface {
	// CacheStats tells what is kept, and how often it served. Reasons: STORAGE.
	CacheStats(ctx context.Context) (CacheStats, error)

	// CleanCache removes content that need not stay. Reasons: those of
	// [Marketplace.Describe] if packages are named, STORAGE.
	CleanCache(ctx context.Context, req CleanRequest) (CleanReceipt, error)

	// VerifyCache reads all content that is kept, and drops what is damaged, so that it is
	// fetched again when it is wanted. Damage is part of the report, not an error.
	// Reasons: STORAGE.
	VerifyCache(ctx context.Context, report ProgressFunc) (CacheReport, error)

	// PinContent keeps packages and what they depend on until they are unpinned, and
	// fetches what is not here. It says nothing about trust. Reasons: those of
	// [Marketplace.Install], except UNTRUSTED and MODIFIED.
	PinContent(ctx context.Context, req PinRequest, report ProgressFunc) (PinReceipt, error)

	// UnpinContent lets go of the pinned releases that a reference means: all of a name
	// without a version. It removes nothing. Reasons: NOT_FOUND if none is pinned, STORAGE.
	UnpinContent(ctx context.Context, ref Ref) ([]PinnedContent, error)
}

// CacheStats is the answer to [Cache.CacheStats].
type CacheStats struct {
	Tiers    []TierStats   // hot, warm, cold
	Limit    int64         // bytes that content may have which need not stay
	Lifetime time.Duration // for which it is kept after it was wanted last

	Published CacheAmount // each is counted once, as the first of these
	Pinned    CacheAmount
	Installed CacheAmount
	Other     CacheAmount // need not stay

	Pins []PinnedContent // by name and version
}

// CacheAmount is some content.
type CacheAmount struct {
	Packages int // whose archive is here
	Bytes    int64
}

// TierStats are those of one tier since the engine started.
type TierStats struct {
	Name     string
	Entries  int
	Limit    int // entries; 0: it is bounded by bytes
	Lifetime time.Duration
	Hits     int64
	Misses   int64
}

// PinnedContent is a release that a user wants to keep.
type PinnedContent struct {
	Name      string
	Publisher PublisherID
	Version   string
	Since     time.Time
	Packages  int   // with what it depends on
	Bytes     int64 // of all of these that is here
}

// CleanRequest says what to remove. The zero value is everything that need not stay.
type CleanRequest struct {
	Packages []Ref         // only these
	Unused   time.Duration // only what nobody has wanted for so long
	DryRun   bool          // only tell
}

// CleanReceipt says what was removed.
type CleanReceipt struct {
	Packages    []CleanedPackage // that are known by name, by name and version
	Bytes       int64            // of all that was removed
	Diagnostics []Diagnostic     // about packages that were named and stay
}

// CleanedPackage is content that is not here any more.
type CleanedPackage struct {
	Name      string
	Publisher PublisherID
	Version   string
	Bytes     int64 // of its archive
}

// CacheReport is the answer to [Cache.VerifyCache].
type CacheReport struct {
	Checked int // files of content
	Bytes   int64
	Damaged []DamagedContent
}

// DamagedContent was not what its digest says, and is not here any more.
type DamagedContent struct {
	Digest  Digest
	Name    string // and version of the package that it belongs to; empty if it is not known
	Version string
	Own     bool // this node has published it
}

// PinRequest says what to keep.
type PinRequest struct {
	Packages []Ref
	Offline  bool // only if it is here
}

// PinReceipt says what is kept.
type PinReceipt struct {
	Packages    []PinnedContent
	Fetched     int64 // bytes that came from peers
	Diagnostics []Diagnostic
}
