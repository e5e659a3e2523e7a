package shared

import (
	"context"
	"time"
)

// Trust is the part of a [Marketplace] that says whom a bare name means.
type Trust interface {
	// Pins lists which publisher each bare name means here, by name.
	Pins(ctx context.Context) ([]Pin, error)

	// SetPin binds a bare name to a publisher, whatever it was bound to before, or,
	// with an empty one, to none, so that the next first use decides. The publisher
	// is a full ID, or a prefix that one publisher of such a package has. It returns
	// the pin that was there before; its Publisher is empty if there was none.
	// Reasons: INVALID_ARGUMENT, NOT_FOUND, AMBIGUOUS, STORAGE.
	SetPin(ctx context.Context, name string, publisher PublisherID) (former Pin, err error)

	// Explain tells whom a bare name means and why, and who else offers a package of
	// this name. It asks the network how many peers hold each, for a short time.
	// Reasons: INVALID_ARGUMENT, NOT_FOUND, NO_PEERS.
	Explain(ctx context.Context, name string) (TrustReport, error)

	// TrustCatalogues lists the signed catalogues of names that this node follows, by
	// signer and title.
	TrustCatalogues(ctx context.Context) ([]TrustCatalogue, error)

	// AddTrustCatalogue follows a signed catalogue, or takes a newer issue of one that
	// is followed. Reasons: INVALID_ARGUMENT, INTEGRITY for one that is not signed as
	// it says, UNTRUSTED for an older issue than the one that is here, LIMIT_EXCEEDED,
	// STORAGE.
	AddTrustCatalogue(ctx context.Context, signed []byte) (TrustCatalogue, error)

	// RemoveTrustCatalogue stops following a catalogue; pins stay. The signer is a
	// full ID, or a prefix that one signer of such a title has. Reasons: NOT_FOUND,
	// AMBIGUOUS, STORAGE.
	RemoveTrustCatalogue(ctx context.Context, signer PublisherID, title string) (TrustCatalogue, error)

	// SignTrustCatalogue signs a catalogue as this node's publisher; Signer and Issued
	// of the draft do not matter. At most [MaxTrustCatalogue] bytes come out.
	// Reasons: INVALID_ARGUMENT, LIMIT_EXCEEDED, UNTRUSTED.
	SignTrustCatalogue(ctx context.Context, draft TrustCatalogue) (signed []byte, err error)

	// ForkProof exports the proof that a publisher signed two different logs, as JSON.
	// Reasons: NOT_FOUND if there is none.
	ForkProof(ctx context.Context, publisher PublisherID) ([]byte, error)

	// CheckForkProof verifies such a proof from nothing but itself. Reasons: INTEGRITY
	// if it proves nothing.
	CheckForkProof(ctx context.Context, proof []byte) (ForkVerdict, error)
}

// Pin says which publisher a bare name means on this node.
type Pin struct {
	Name      string
	Publisher PublisherID
	Since     time.Time // of its first use here, or of the user's word
}

// TrustPolicy says which publishers packages may come from.
type TrustPolicy string

// The policies. With both, a publisher that a name is not pinned to is refused.
const (
	PolicyTOFU      TrustPolicy = "tofu"       // trust on first use: the user is asked once
	PolicyAllowList TrustPolicy = "allow-list" // only names that are pinned, or that a trust catalogue lists
)

// TrustRule is why a name means a publisher.
type TrustRule string

// The rules, the strongest first.
const (
	RulePin       TrustRule = "pin"       // it is pinned
	RuleCatalogue TrustRule = "catalogue" // a trust catalogue says so
	RuleOnly      TrustRule = "only"      // nobody else offers one
	RuleNone      TrustRule = "none"      // it means nobody: several offer one, or catalogues disagree
)

// TrustReport is the answer to [Trust.Explain].
type TrustReport struct {
	Name       string
	Rule       TrustRule
	Publisher  PublisherID // empty with [RuleNone]
	Since      time.Time   // of the pin, or of the catalogue's issue
	Catalogue  string      // title of the catalogue, with [RuleCatalogue]
	Candidates []Candidate // by the time this node saw their first release
	LookAlikes []LookAlike
}

// Candidate is one of the publishers that offer a package.
type Candidate struct {
	Publisher PublisherID
	Newest    string    // version
	Releases  int       // that are not yanked
	FirstSeen time.Time // when this node learnt of its oldest release
	Holders   int       // peers known to hold the newest one, this node included; -1 if nobody could be asked
}

// LookAlike is a well-known name that another one may be taken for.
type LookAlike struct {
	Name      string
	Publisher PublisherID
	Why       string // in words
}

// MaxTrustCatalogue bounds a signed trust catalogue, in bytes.
const MaxTrustCatalogue = 512 << 10

// TrustCatalogue says which publisher each of a list of names means, in the name
// of somebody whom users choose to follow.
type TrustCatalogue struct {
	Title  string // of one line, at most 100 bytes
	Signer PublisherID
	Serial int64 // of the issue; a higher one replaces a lower
	Issued time.Time
	Names  []CatalogueName // by name
}

// CatalogueName is one line of a [TrustCatalogue].
type CatalogueName struct {
	Name      string
	Publisher PublisherID
}

// ForkVerdict is what a proof of equivocation proves.
type ForkVerdict struct {
	Publisher   PublisherID
	Size        int64  // within their first so many entries the two logs differ
	First       Digest // hash of the one log's tree of that size
	Second      Digest // of the other one's
	FirstTime   time.Time
	SecondTime  time.Time
	Quarantined bool // nothing more is accepted from this publisher here
}
