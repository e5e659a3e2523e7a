package shared

import (
	"context"
	"time"
)

// Bundles is the part of a [Marketplace] that carries packages to machines without a
// network, and says why content can be believed.
type Bundles interface {
	// Export writes packages, what they depend on, and the whole logs of their
	// publishers into a file, which appears whole or not at all. What is not here is
	// fetched, unless req.Offline. Reasons: INVALID_ARGUMENT, STORAGE, STORAGE_FULL,
	// and those of [Marketplace.Install].
	Export(ctx context.Context, req ExportRequest, report ProgressFunc) (ExportReceipt, error)

	// Import takes over what [Bundles.Export] wrote, verifying it as if it came from a
	// peer: signatures, proofs, that no log is older or another one than known, and the
	// digest of every byte. Nobody's name is pinned by it. What was taken before an
	// error stays. Reasons: INVALID_ARGUMENT for a file that is no bundle, INTEGRITY,
	// UNTRUSTED for a publisher that signed two logs, LIMIT_EXCEEDED, STORAGE,
	// STORAGE_FULL.
	Import(ctx context.Context, file string, report ProgressFunc) (ImportReceipt, error)

	// Prove verifies a release anew, from the digest of one of its files (or of its
	// archive, if file is empty) to its publisher's first root document, and says how.
	// Reasons: NOT_FOUND, NO_PEERS, AMBIGUOUS, INTEGRITY, UNAVAILABLE if file is named and
	// this node does not have the list of the release's files.
	Prove(ctx context.Context, ref Ref, file string) (Provenance, error)
}

// ExportRequest says what goes into a bundle.
type ExportRequest struct {
	File     string // absolute path of the bundle; it is replaced if it exists
	Packages []Ref
	Locked   []LockedPackage // as in [InstallRequest]
	Offline  bool            // use only what this node holds
}

// ExportReceipt says what is in a bundle.
type ExportReceipt struct {
	Packages    []LockedPackage // dependencies before dependants
	Bytes       int64           // of the file
	Diagnostics []Diagnostic
}

// ImportReceipt says what was taken over.
type ImportReceipt struct {
	Packages []LockedPackage // whose content is here now; without Dependencies
	Entries  int64           // of logs that were not known before
}

// Provenance is the way from a digest to a publisher. Each step was verified.
type Provenance struct {
	Name      string
	Version   string
	Publisher PublisherID

	File    FileInfo // that was asked about; its Path is empty if none was
	Index   Digest   // of the list of files
	Archive Digest

	Entry      int64     // position of the release in the publisher's log
	EntryHash  Digest    // its leaf hash (RFC 6962)
	EntryTime  time.Time // the publisher's clock
	PathLength int       // hashes of the inclusion proof
	LogSize    int64     // entries under the newest head
	LogHash    Digest    // its root hash (RFC 6962)
	HeadTime   time.Time // the publisher's clock

	Roots []ProvenRoot // the chain of root documents, the newest last
	Rule  TrustRule    // why the bare name means this publisher; empty if it does not
}

// ProvenRoot is one root document of a [Provenance].
type ProvenRoot struct {
	Version   int
	Digest    Digest   // of its signed bytes; the first one's is the publisher's ID
	Keys      []string // public keys in base64
	Threshold int
	Recovers  bool // the recovery key of the document before has signed it, and not its keys
}
