package rpc

import (
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"ggen.dev/marketplace/shared"
	"ggen.dev/marketplace/shared/rpc/marketpb"
)

func toTime(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func toProgress(p shared.Progress) *marketpb.Progress {
	return &marketpb.Progress{Phase: string(p.Phase), Package: p.Package, Done: p.Done, Total: p.Total, Message: p.Message}
}

func toDiagnostics(in []shared.Diagnostic) []*marketpb.Diagnostic {
	return each(in, func(d shared.Diagnostic) *marketpb.Diagnostic {
		return &marketpb.Diagnostic{Severity: string(d.Severity), Reason: string(d.Reason), Message: clean(d.Message, maxErrorText), Hint: clean(d.Hint, maxErrorText)}
	})
}

func toInfo(i shared.EngineInfo) *marketpb.InfoResponse {
	return &marketpb.InfoResponse{
		Name: i.Name, Version: i.Version, InstanceId: i.InstanceID, Capabilities: i.Capabilities, Pid: int64(i.PID), StartedAt: toTime(i.StartedAt),
		Protocols: each(i.Protocols, func(v int) int32 { return int32(v) }),
	}
}

func toSearch(q shared.SearchQuery) *marketpb.SearchRequest {
	return &marketpb.SearchRequest{
		Text: clean(q.Text, maxErrorText), Category: q.Category, Tag: q.Tag, Publisher: string(q.Publisher), License: q.License,
		Limit: int32(q.Limit), Offset: int32(q.Offset), Sort: string(q.Sort),
		MinReputation: q.MinReputation,
	}
}

func toSummary(p shared.PackageSummary) *marketpb.PackageSummary {
	return &marketpb.PackageSummary{
		Name: p.Name, Publisher: string(p.Publisher), Version: p.Version, Title: p.Title, Description: p.Description, Author: p.Author,
		Category: p.Category, License: p.License, Tags: p.Tags, PublishedAt: toTime(p.PublishedAt), Score: p.Score, Deprecated: p.Deprecated, Matches: p.Matches,
	}
}

func toRef(r shared.Ref) *marketpb.Ref {
	return &marketpb.Ref{Publisher: string(r.Publisher), Name: r.Name, Constraint: r.Constraint}
}

func toDependencies(in []shared.Dependency) []*marketpb.Dependency {
	return each(in, func(d shared.Dependency) *marketpb.Dependency {
		return &marketpb.Dependency{Publisher: string(d.Publisher), Name: d.Name, Constraint: d.Constraint, Optional: d.Optional}
	})
}

func toDetails(d shared.PackageDetails) *marketpb.DescribeResponse {
	var holders *int32
	if d.Holders >= 0 {
		holders = proto.Int32(int32(d.Holders))
	}
	return &marketpb.DescribeResponse{
		Summary: toSummary(d.PackageSummary), Digest: string(d.Digest), Size: d.Size, FileCount: int32(d.FileCount),
		Keywords: d.Keywords, Repository: d.Repository, Dependencies: toDependencies(d.Dependencies),
		Versions: each(d.Versions, func(v shared.VersionInfo) *marketpb.VersionInfo {
			return &marketpb.VersionInfo{Version: v.Version, Digest: string(v.Digest), Size: v.Size, PublishedAt: toTime(v.PublishedAt), FirstSeen: toTime(v.FirstSeen), Yanked: v.Yanked}
		}),
		Extra: d.Extra, Held: d.Held, Providers: int32(d.Providers), PinnedTo: string(d.PinnedTo), Diagnostics: toDiagnostics(d.Diagnostics),
		Deprecation: toDeprecation(d.Deprecation), Readme: d.Readme, Ggen: d.Ggen, Inputs: each(d.Inputs, toInput), Holders: holders,
	}
}

func toInput(i shared.Input) *marketpb.Input {
	return &marketpb.Input{Name: i.Name, Type: i.Type, Required: i.Required, Default: i.Default, Description: i.Description}
}

func toDeprecation(d *shared.Deprecation) *marketpb.Deprecation {
	if d == nil {
		return nil
	}
	return &marketpb.Deprecation{Successor: d.Successor, Why: d.Why, Since: toTime(d.Since)}
}

func toStatement(s shared.Statement) *marketpb.DeclareRequest {
	return &marketpb.DeclareRequest{Kind: string(s.Kind), Package: s.Package, Version: s.Version, Successor: s.Successor, Why: s.Why}
}

func toDeclareReceipt(r shared.DeclareReceipt) *marketpb.DeclareResponse {
	return &marketpb.DeclareResponse{
		Publisher: string(r.Publisher), LogSize: r.LogSize, Unchanged: r.Unchanged, Announced: int32(r.Announced), Diagnostics: toDiagnostics(r.Diagnostics),
	}
}

func toFile(f shared.FileInfo) *marketpb.FileInfo {
	return &marketpb.FileInfo{Path: f.Path, Size: f.Size, Executable: f.Executable, Digest: string(f.Digest)}
}

// toPublishReceipt leaves out the files, which travel before it in pieces.
func toPublishReceipt(r shared.PublishReceipt) *marketpb.PublishReceipt {
	return &marketpb.PublishReceipt{
		Package: r.Package, Version: r.Version, Publisher: string(r.Publisher), Digest: string(r.Digest), Size: r.Size,
		Dependencies: toDependencies(r.Dependencies), LogSize: r.LogSize, Unchanged: r.Unchanged, DryRun: r.DryRun,
		Announced: int32(r.Announced), Recorded: int32(r.Recorded), Diagnostics: toDiagnostics(r.Diagnostics),
		Manifest: clean(r.Manifest, maxManifest), Statement: clean(r.Statement, maxManifest), Findings: each(r.Findings, toFinding),
	}
}

// toFinding cuts what an engine may quote from a file.
func toFinding(f shared.Finding) *marketpb.Finding {
	return &marketpb.Finding{
		Severity: string(f.Severity), Rule: f.Rule, File: clean(f.File, maxFinding), Line: int32(f.Line), Column: int32(f.Column),
		Message: clean(f.Message, maxFinding), Fix: clean(f.Fix, maxFinding),
	}
}

func toInstall(r shared.InstallRequest) *marketpb.InstallRequest {
	return &marketpb.InstallRequest{
		Packages: each(r.Packages, toRef), Root: r.Root, Locked: each(r.Locked, toLocked),
		Trust: r.Trust, Force: r.Force, Offline: r.Offline, DryRun: r.DryRun,
		Accepted: each(r.Accepted, toLocked), Policy: string(r.Policy), MinAge: durationpb.New(r.MinAge),
		MaxFiles: int32(r.MaxFiles), MaxBytes: r.MaxBytes, Executables: r.Executables,
	}
}

func toLocked(l shared.LockedPackage) *marketpb.LockedPackage {
	return &marketpb.LockedPackage{Name: l.Name, Publisher: string(l.Publisher), Version: l.Version, Digest: string(l.Digest), Dependencies: l.Dependencies}
}

func toInstalled(p shared.InstalledPackage) *marketpb.InstalledPackage {
	return &marketpb.InstalledPackage{
		Locked: toLocked(p.LockedPackage), Path: p.Path, Title: p.Title, Description: p.Description, Requested: p.Requested,
		Unchanged: p.Unchanged, Fetched: p.Fetched, Peers: int32(p.Peers), FirstUse: p.FirstUse,
	}
}

func toVerifyResult(r shared.VerifyResult) *marketpb.VerifyResult {
	return &marketpb.VerifyResult{Name: r.Name, Version: r.Version, Ok: r.OK, Expected: string(r.Expected), Found: string(r.Found), Problem: clean(r.Problem, maxErrorText)}
}

func toNodeStatus(s shared.NodeStatus) *marketpb.StatusResponse {
	return &marketpb.StatusResponse{
		PeerId: s.PeerID, ListenAddresses: s.ListenAddresses, Reachability: s.Reachability, DhtMode: s.DHTMode,
		BootstrapCount: int32(s.BootstrapCount), ConnectedPeers: int32(s.ConnectedPeers), KnownPeers: int32(s.KnownPeers), RoutingTable: int32(s.RoutingTable),
		Publisher: string(s.Publisher), Publishers: int32(s.Publishers), Releases: int32(s.Releases), HeldPackages: int32(s.HeldPackages), HeldBytes: s.HeldBytes,
		StartedAt: toTime(s.StartedAt), Version: s.Version, Staying: s.Staying, Diagnostics: toDiagnostics(s.Diagnostics),
		Mode: s.Mode, PeerTable: int32(s.PeerTable), DhtServers: int32(s.DHTServers), InboundPeers: int32(s.InboundPeers), Entries: s.Entries, NewestHead: toTime(s.NewestHead),
		ReceivedBytes: s.ReceivedBytes, SentBytes: s.SentBytes, ReceiveRate: s.ReceiveRate, SendRate: s.SendRate, CacheHits: s.CacheHits, CacheMisses: s.CacheMisses,
	}
}

func toPeer(p shared.Peer) *marketpb.Peer {
	return &marketpb.Peer{
		Id: p.ID, Addresses: p.Addresses, Connections: p.Connections, Agent: clean(p.Agent, 1024), Connected: p.Connected, Reputation: p.Reputation,
		SuccessfulRetrievals: p.SuccessfulRetrievals, FailedRetrievals: p.FailedRetrievals, LastSeen: toTime(p.LastSeen),
		PackagesProvided: int32(p.PackagesProvided), AvgResponseTime: durationpb.New(p.AvgResponseTime),
		AvgBandwidth: p.AvgBandwidth, Score: each(p.Score, toScorePart), Outcomes: p.Outcomes, ReceivedBytes: p.ReceivedBytes, Downloads: int32(p.Downloads),
		FirstSeen: toTime(p.FirstSeen), LastSuccess: toTime(p.LastSuccess), LastFailure: toTime(p.LastFailure), LastFailureKind: p.LastFailureKind,
		FailuresInRow: int32(p.FailuresInRow), RestsUntil: toTime(p.RestsUntil), BannedUntil: toTime(p.BannedUntil), BannedFor: p.BannedFor,
		Location: toLocation(p.Location),
	}
}

func toScorePart(p shared.ScorePart) *marketpb.ScorePart {
	return &marketpb.ScorePart{Name: p.Name, Value: p.Value, Weight: p.Weight}
}

func toLocation(l *shared.Location) *marketpb.Location {
	if l == nil {
		return nil
	}
	return &marketpb.Location{Latitude: int32(l.Latitude), Longitude: int32(l.Longitude), Region: l.Region}
}

func toOutcome(o shared.DialOutcome) *marketpb.DialOutcome {
	return &marketpb.DialOutcome{Address: o.Address, PeerId: o.PeerID, Took: durationpb.New(o.Took), Error: toErrorPB(o.Err)}
}

func toEvent(e shared.Event) *marketpb.WatchResponse {
	return &marketpb.WatchResponse{
		Kind: string(e.Kind), Time: toTime(e.Time), Package: toSummary(e.Package), PeerId: e.PeerID, Lost: int32(e.Lost), Message: clean(e.Message, maxErrorText),
	}
}

// each converts a list; an empty one becomes nil, as it comes out of the wire.
func each[In, Out any](in []In, convert func(In) Out) []Out {
	if len(in) == 0 {
		return nil
	}
	out := make([]Out, len(in))
	for i, item := range in {
		out[i] = convert(item)
	}
	return out
}
