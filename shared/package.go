package shared

import (
	"fmt"
	"time"
)

// SearchQuery asks for packages. Zero values do not filter.
type SearchQuery struct {
	Text      string // words; ranked over name, title, keywords, tags, category, author, description, beginning of the readme
	Category  string
	Tag       string
	Publisher PublisherID // full ID or an unambiguous prefix of at least [MinPublisherPrefix]
	License   string
	// MinReputation leaves out packages of which no holder is known with at least this
	// reputation, 0 to 1: a peer that has given their content to this one, or that the
	// network has named as a provider. One that was never met has 0.5 (see [Peer]).
	MinReputation float64
	Sort          SearchOrder // empty: SortRelevance
	Limit         int         // 0 means 20; at most 1000
	Offset        int
}

// SearchOrder says in which order a search lists packages. Equal ones follow by name,
// then publisher.
type SearchOrder string

// The orders. Without words, relevance is by name.
const (
	SortRelevance SearchOrder = "relevance" // the best match first
	SortName      SearchOrder = "name"
	SortNewest    SearchOrder = "newest" // by the publisher's clock
)

// SearchOrders are all orders.
func SearchOrders() []SearchOrder { return []SearchOrder{SortRelevance, SortName, SortNewest} }

// SearchResult is one page of a search.
type SearchResult struct {
	Packages    []PackageSummary
	Total       int // matches before Limit and Offset
	Diagnostics []Diagnostic
}

// PackageSummary is the newest release of one publisher's package, as a list
// shows it. All text came from its publisher: clean it before printing.
type PackageSummary struct {
	Name        string
	Publisher   PublisherID
	Version     string
	Title       string
	Description string
	Author      string
	Category    string
	License     string
	Tags        []string
	PublishedAt time.Time // the author's clock
	Score       float64   // of this search; higher is better
	Matches     []string  // of this search: lower-case words of the package that it found
	Deprecated  bool      // its publisher advises against it; see [PackageDetails]
}

// PackageDetails is everything the catalogue knows of one package.
type PackageDetails struct {
	PackageSummary
	Digest       Digest // of the canonical archive of Version
	Size         int64  // bytes of the canonical archive
	FileCount    int
	Keywords     []string
	Repository   string
	Dependencies []Dependency
	Versions     []VersionInfo // newest first
	Held         bool          // this node has the content of Version
	Providers    int           // other peers known to hold it; -1 when not asked
	Holders      int           // other peers that hold it, about: an estimate that fades with time; -1 if unknown
	PinnedTo     PublisherID
	Deprecation  *Deprecation // nil: it is not deprecated
	Diagnostics  []Diagnostic

	// What only the package's manifest says. It is known while this node has the
	// content.
	Readme string // path in the package
	Ggen   string // range of versions of ggen that can use it; empty for any
	Inputs []Input
	Extra  map[string]string // keys that mean nothing here
}

// Input is a value that a package's templates ask their user for.
type Input struct {
	Name        string
	Type        string // as the manifest states it, mostly "string"
	Required    bool
	Default     string // empty if there is none
	Description string
}

// Deprecation is a publisher's advice against a package of its own.
type Deprecation struct {
	Successor string    // what to use instead, as a name or publisher/name; may be empty
	Why       string    // may be empty
	Since     time.Time // the publisher's clock
}

// VersionInfo is one release of a package.
type VersionInfo struct {
	Version     string
	Digest      Digest
	Size        int64
	PublishedAt time.Time
	FirstSeen   time.Time // when this node learnt of it
	Yanked      bool
}

// Dependency is a requirement of a package on another one.
type Dependency struct {
	Publisher  PublisherID // empty: whoever the name is pinned to or unique for
	Name       string
	Constraint string // semver range; empty means any release
	Optional   bool
}

// PublishRequest describes a publish; the files come as a tar stream beside it.
type PublishRequest struct {
	// RequestID makes a retry safe: an engine that has executed this ID answers
	// with the same receipt and does nothing again; with other content the ID is an
	// INVALID_ARGUMENT. IDs are remembered for 24 h and over restarts, the newest
	// 1,000 of them. At most 64 bytes.
	RequestID string
	DryRun    bool // check and show; store, sign and announce nothing
	Wait      bool // also wait for the DHT records, and report on them
	// Lint makes it a dry run that tells everything that is wrong with the package,
	// and what could be better, as findings of the receipt: mistakes of the package
	// are no error then.
	Lint bool
}

// Finding is one thing that is wrong with a package, or could be better.
type Finding struct {
	Severity Severity
	Rule     string // stable name of what was checked, such as "license"
	File     string // path in the package; empty for the package as a whole
	Line     int    // from 1; 0 when the finding has no line
	Column   int    // in bytes, from 1; 0 when Line is
	Message  string // what is wrong, in one line
	Fix      string // what to do; may have several lines
}

// Where is the place as compilers write it: file, file:line or file:line:column.
func (f Finding) Where() string {
	switch {
	case f.Line == 0:
		return f.File
	case f.Column == 0:
		return fmt.Sprintf("%s:%d", f.File, f.Line)
	}
	return fmt.Sprintf("%s:%d:%d", f.File, f.Line, f.Column)
}

// PublishReceipt says what was published and how far it got.
type PublishReceipt struct {
	Package      string
	Version      string
	Publisher    PublisherID
	Digest       Digest
	Size         int64
	Files        []FileInfo
	Dependencies []Dependency
	LogSize      int64 // size of the publisher's log that first contains it
	Unchanged    bool  // this very content had been published before
	DryRun       bool
	Announced    int // peers in the announcement mesh when it was handed over
	Recorded     int // DHT records stored; only with Wait
	Diagnostics  []Diagnostic

	Manifest  string    // its normal form, as TOML; only of a dry run
	Statement string    // what would be signed, as JSON; only of a dry run
	Findings  []Finding // by place, at most 100; only with Lint. Without an error among them the package can be published
}

// StatementKind is what a [Statement] says.
type StatementKind string

// The kinds of statements.
const (
	StatementYank        StatementKind = "yank"        // Package, Version, Why: it should not be chosen any more
	StatementUnyank      StatementKind = "unyank"      // Package, Version: it may be chosen again
	StatementDeprecate   StatementKind = "deprecate"   // Package, Successor, Why
	StatementUndeprecate StatementKind = "undeprecate" // Package
)

// MaxWhy bounds [Statement.Why], in bytes.
const MaxWhy = 512

// Statement is what a publisher says of a package that it has released. A yanked
// release is not chosen for anybody who does not have it locked.
type Statement struct {
	Kind      StatementKind
	Package   string
	Version   string // of yank and unyank, exactly
	Successor string // of deprecate: a name or publisher/name; may be empty
	Why       string // for people; at most [MaxWhy]
}

// DeclareReceipt says how far a statement got.
type DeclareReceipt struct {
	Publisher   PublisherID
	LogSize     int64 // size of the publisher's log that contains it
	Unchanged   bool  // it held before, and nothing was stated
	Announced   int   // peers in the announcement mesh when it was handed over
	Diagnostics []Diagnostic
}

// FileInfo is one file of a package.
type FileInfo struct {
	Path       string
	Size       int64
	Executable bool
	Digest     Digest
}

// InstallRequest asks for packages to be placed below Root.
type InstallRequest struct {
	Packages []Ref
	// Root is an absolute folder; the package goes to Root/<name>.
	Root string
	// Locked are the packages already in the project's lockfile. They keep
	// their versions unless a requirement excludes them; one without a version keeps
	// its publisher alone.
	Locked  []LockedPackage
	Force   bool // replace folders whose files were changed
	Offline bool // use only what this node holds
	DryRun  bool // resolve and report; touch nothing

	// Trust accepts and pins publishers that the names are not pinned to yet. Without
	// it such a publisher is UNTRUSTED, unless Locked names it or Accepted does. A dry
	// run reports it instead, as FirstUse.
	Trust bool
	// Accepted, if it is not empty, is what the user was shown and agreed to: with
	// any other publisher or version the install is UNTRUSTED.
	Accepted []LockedPackage
	Policy   TrustPolicy // empty means [PolicyTOFU]
	// MinAge leaves out releases that this node has known for a shorter time; those
	// that Locked names are used all the same.
	MinAge time.Duration
	// MaxFiles and MaxBytes bound each package, its archive in bytes; 0 means what the
	// format allows, which cannot be exceeded.
	MaxFiles int
	MaxBytes int64
	// Executables accepts packages with executable files that their manifests do not
	// name.
	Executables bool
}

// LockedPackage pins a package exactly, as ggen.lock does.
type LockedPackage struct {
	Name         string
	Publisher    PublisherID
	Version      string
	Digest       Digest
	Dependencies []string // names
}

// InstallReceipt lists what is now in place, dependencies before dependants.
type InstallReceipt struct {
	Packages    []InstalledPackage
	Diagnostics []Diagnostic
}

// InstalledPackage is one package that an install put (or found) in place.
type InstalledPackage struct {
	LockedPackage
	Path        string // absolute folder
	Title       string
	Description string
	Requested   bool  // named by the user, not a dependency
	Unchanged   bool  // was there already with this content
	Fetched     int64 // bytes that came from peers
	Peers       int   // peers that contributed
	FirstUse    bool  // its publisher was pinned by this install
}

// VerifyRequest names installed packages to check below Root.
type VerifyRequest struct {
	Root     string
	Packages []LockedPackage
}

// VerifyReport has one result for each package of the request, in its order.
type VerifyReport struct {
	Packages    []VerifyResult
	Diagnostics []Diagnostic
}

// VerifyResult compares one installed folder with its digest.
type VerifyResult struct {
	Name     string
	Version  string
	OK       bool
	Expected Digest
	Found    Digest   // empty when the folder is missing or cannot be archived
	Modified []string // relative paths; the three lists are empty when the
	Missing  []string // node no longer holds the file list to compare with
	Extra    []string
	Problem  string // why Found is empty, or another remark
}
