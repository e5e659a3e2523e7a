package rpc

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"ggen.dev/marketplace/shared"
	"ggen.dev/marketplace/shared/rpc/marketpb"
)

func fromTime(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

func fromProgress(p *marketpb.Progress) shared.Progress {
	return shared.Progress{Phase: shared.Phase(p.GetPhase()), Package: p.GetPackage(), Done: p.GetDone(), Total: p.GetTotal(), Message: p.GetMessage()}
}

func fromDiagnostics(in []*marketpb.Diagnostic) []shared.Diagnostic {
	return each(in, func(d *marketpb.Diagnostic) shared.Diagnostic {
		return shared.Diagnostic{Severity: shared.Severity(d.GetSeverity()), Reason: shared.Reason(d.GetReason()), Message: d.GetMessage(), Hint: d.GetHint()}
	})
}

func fromInfo(i *marketpb.InfoResponse) shared.EngineInfo {
	return shared.EngineInfo{
		Name: i.GetName(), Version: i.GetVersion(), InstanceID: i.GetInstanceId(), Capabilities: i.GetCapabilities(), PID: int(i.GetPid()),
		StartedAt: fromTime(i.GetStartedAt()), Protocols: each(i.GetProtocols(), func(v int32) int { return int(v) }),
	}
}

func fromSearch(q *marketpb.SearchRequest) shared.SearchQuery {
	return shared.SearchQuery{
		Text: q.GetText(), Category: q.GetCategory(), Tag: q.GetTag(), Publisher: shared.PublisherID(q.GetPublisher()), License: q.GetLicense(),
		Limit: int(q.GetLimit()), Offset: int(q.GetOffset()), Sort: shared.SearchOrder(q.GetSort()),
		MinReputation: q.GetMinReputation(),
	}
}

func fromSummary(p *marketpb.PackageSummary) shared.PackageSummary {
	return shared.PackageSummary{
		Name: p.GetName(), Publisher: shared.PublisherID(p.GetPublisher()), Version: p.GetVersion(), Title: p.GetTitle(), Description: p.GetDescription(),
		Author: p.GetAuthor(), Category: p.GetCategory(), License: p.GetLicense(), Tags: p.GetTags(), PublishedAt: fromTime(p.GetPublishedAt()), Score: p.GetScore(),
		Deprecated: p.GetDeprecated(), Matches: p.GetMatches(),
	}
}

func fromRef(r *marketpb.Ref) shared.Ref {
	return shared.Ref{Publisher: shared.PublisherID(r.GetPublisher()), Name: r.GetName(), Constraint: r.GetConstraint()}
}

func fromDependencies(in []*marketpb.Dependency) []shared.Dependency {
	return each(in, func(d *marketpb.Dependency) shared.Dependency {
		return shared.Dependency{Publisher: shared.PublisherID(d.GetPublisher()), Name: d.GetName(), Constraint: d.GetConstraint(), Optional: d.GetOptional()}
	})
}

func fromDetails(d *marketpb.DescribeResponse) shared.PackageDetails {
	holders := -1
	if d.Holders != nil {
		holders = int(d.GetHolders())
	}
	return shared.PackageDetails{
		PackageSummary: fromSummary(d.GetSummary()), Digest: shared.Digest(d.GetDigest()), Size: d.GetSize(), FileCount: int(d.GetFileCount()),
		Keywords: d.GetKeywords(), Repository: d.GetRepository(), Dependencies: fromDependencies(d.GetDependencies()),
		Versions: each(d.GetVersions(), func(v *marketpb.VersionInfo) shared.VersionInfo {
			return shared.VersionInfo{
				Version: v.GetVersion(), Digest: shared.Digest(v.GetDigest()), Size: v.GetSize(),
				PublishedAt: fromTime(v.GetPublishedAt()), FirstSeen: fromTime(v.GetFirstSeen()), Yanked: v.GetYanked(),
			}
		}),
		Extra: d.GetExtra(), Held: d.GetHeld(), Providers: int(d.GetProviders()), PinnedTo: shared.PublisherID(d.GetPinnedTo()),
		Diagnostics: fromDiagnostics(d.GetDiagnostics()), Deprecation: fromDeprecation(d.GetDeprecation()),
		Readme: d.GetReadme(), Ggen: d.GetGgen(), Inputs: each(d.GetInputs(), fromInput), Holders: holders,
	}
}

func fromInput(i *marketpb.Input) shared.Input {
	return shared.Input{Name: i.GetName(), Type: i.GetType(), Required: i.GetRequired(), Default: i.GetDefault(), Description: i.GetDescription()}
}

func fromDeprecation(d *marketpb.Deprecation) *shared.Deprecation {
	if d == nil {
		return nil
	}
	return &shared.Deprecation{Successor: d.GetSuccessor(), Why: d.GetWhy(), Since: fromTime(d.GetSince())}
}

func fromStatement(s *marketpb.DeclareRequest) shared.Statement {
	return shared.Statement{
		Kind: shared.StatementKind(s.GetKind()), Package: s.GetPackage(), Version: s.GetVersion(), Successor: s.GetSuccessor(), Why: s.GetWhy(),
	}
}

func fromDeclareReceipt(r *marketpb.DeclareResponse) shared.DeclareReceipt {
	return shared.DeclareReceipt{
		Publisher: shared.PublisherID(r.GetPublisher()), LogSize: r.GetLogSize(), Unchanged: r.GetUnchanged(), Announced: int(r.GetAnnounced()),
		Diagnostics: fromDiagnostics(r.GetDiagnostics()),
	}
}

func fromFile(f *marketpb.FileInfo) shared.FileInfo {
	return shared.FileInfo{Path: f.GetPath(), Size: f.GetSize(), Executable: f.GetExecutable(), Digest: shared.Digest(f.GetDigest())}
}

func fromPublishReceipt(r *marketpb.PublishReceipt, files []shared.FileInfo) shared.PublishReceipt {
	return shared.PublishReceipt{
		Package: r.GetPackage(), Version: r.GetVersion(), Publisher: shared.PublisherID(r.GetPublisher()), Digest: shared.Digest(r.GetDigest()), Size: r.GetSize(),
		Files: files, Dependencies: fromDependencies(r.GetDependencies()), LogSize: r.GetLogSize(), Unchanged: r.GetUnchanged(), DryRun: r.GetDryRun(),
		Announced: int(r.GetAnnounced()), Recorded: int(r.GetRecorded()), Diagnostics: fromDiagnostics(r.GetDiagnostics()),
		Manifest: r.GetManifest(), Statement: r.GetStatement(), Findings: each(r.GetFindings(), fromFinding),
	}
}

func fromFinding(f *marketpb.Finding) shared.Finding {
	return shared.Finding{
		Severity: shared.Severity(f.GetSeverity()), Rule: f.GetRule(), File: f.GetFile(), Line: int(f.GetLine()), Column: int(f.GetColumn()),
		Message: f.GetMessage(), Fix: f.GetFix(),
	}
}

func fromInstall(r *marketpb.InstallRequest) shared.InstallRequest {
	return shared.InstallRequest{
		Packages: each(r.GetPackages(), fromRef), Root: r.GetRoot(), Locked: each(r.GetLocked(), fromLocked),
		Trust: r.GetTrust(), Force: r.GetForce(), Offline: r.GetOffline(), DryRun: r.GetDryRun(),
		Accepted: each(r.GetAccepted(), fromLocked), Policy: shared.TrustPolicy(r.GetPolicy()), MinAge: r.GetMinAge().AsDuration(),
		MaxFiles: int(r.GetMaxFiles()), MaxBytes: r.GetMaxBytes(), Executables: r.GetExecutables(),
	}
}

func fromLocked(l *marketpb.LockedPackage) shared.LockedPackage {
	return shared.LockedPackage{
		Name: l.GetName(), Publisher: shared.PublisherID(l.GetPublisher()), Version: l.GetVersion(), Digest: shared.Digest(l.GetDigest()), Dependencies: l.GetDependencies(),
	}
}

func fromInstalled(p *marketpb.InstalledPackage) shared.InstalledPackage {
	return shared.InstalledPackage{
		LockedPackage: fromLocked(p.GetLocked()), Path: p.GetPath(), Title: p.GetTitle(), Description: p.GetDescription(), Requested: p.GetRequested(),
		Unchanged: p.GetUnchanged(), Fetched: p.GetFetched(), Peers: int(p.GetPeers()), FirstUse: p.GetFirstUse(),
	}
}

func fromVerifyResult(r *marketpb.VerifyResult) shared.VerifyResult {
	return shared.VerifyResult{
		Name: r.GetName(), Version: r.GetVersion(), OK: r.GetOk(), Expected: shared.Digest(r.GetExpected()), Found: shared.Digest(r.GetFound()), Problem: r.GetProblem(),
	}
}

func fromNodeStatus(s *marketpb.StatusResponse) shared.NodeStatus {
	return shared.NodeStatus{
		PeerID: s.GetPeerId(), ListenAddresses: s.GetListenAddresses(), Reachability: s.GetReachability(), DHTMode: s.GetDhtMode(),
		BootstrapCount: int(s.GetBootstrapCount()), ConnectedPeers: int(s.GetConnectedPeers()), KnownPeers: int(s.GetKnownPeers()), RoutingTable: int(s.GetRoutingTable()),
		Publisher: shared.PublisherID(s.GetPublisher()), Publishers: int(s.GetPublishers()), Releases: int(s.GetReleases()),
		HeldPackages: int(s.GetHeldPackages()), HeldBytes: s.GetHeldBytes(), StartedAt: fromTime(s.GetStartedAt()), Version: s.GetVersion(), Staying: s.GetStaying(),
		Mode: s.GetMode(), PeerTable: int(s.GetPeerTable()), DHTServers: int(s.GetDhtServers()), InboundPeers: int(s.GetInboundPeers()), Entries: s.GetEntries(), NewestHead: fromTime(s.GetNewestHead()),
		ReceivedBytes: s.GetReceivedBytes(), SentBytes: s.GetSentBytes(), ReceiveRate: s.GetReceiveRate(), SendRate: s.GetSendRate(), CacheHits: s.GetCacheHits(), CacheMisses: s.GetCacheMisses(),
		Diagnostics: fromDiagnostics(s.GetDiagnostics()),
	}
}

func fromPeer(p *marketpb.Peer) shared.Peer {
	return shared.Peer{
		ID: p.GetId(), Addresses: p.GetAddresses(), Connections: p.GetConnections(), Agent: p.GetAgent(), Connected: p.GetConnected(), Reputation: p.GetReputation(),
		SuccessfulRetrievals: p.GetSuccessfulRetrievals(), FailedRetrievals: p.GetFailedRetrievals(), LastSeen: fromTime(p.GetLastSeen()),
		PackagesProvided: int(p.GetPackagesProvided()), AvgResponseTime: p.GetAvgResponseTime().AsDuration(),
		AvgBandwidth: p.GetAvgBandwidth(), Score: each(p.GetScore(), fromScorePart), Outcomes: p.GetOutcomes(), ReceivedBytes: p.GetReceivedBytes(),
		Downloads: int(p.GetDownloads()), FirstSeen: fromTime(p.GetFirstSeen()), LastSuccess: fromTime(p.GetLastSuccess()), LastFailure: fromTime(p.GetLastFailure()),
		LastFailureKind: p.GetLastFailureKind(), FailuresInRow: int(p.GetFailuresInRow()), RestsUntil: fromTime(p.GetRestsUntil()),
		BannedUntil: fromTime(p.GetBannedUntil()), BannedFor: p.GetBannedFor(), Location: fromLocation(p.GetLocation()),
	}
}

func fromScorePart(p *marketpb.ScorePart) shared.ScorePart {
	return shared.ScorePart{Name: p.GetName(), Value: p.GetValue(), Weight: p.GetWeight()}
}

func fromLocation(l *marketpb.Location) *shared.Location {
	if l == nil {
		return nil
	}
	return &shared.Location{Latitude: int(l.GetLatitude()), Longitude: int(l.GetLongitude()), Region: l.GetRegion()}
}

func fromOutcome(o *marketpb.DialOutcome) shared.DialOutcome {
	return shared.DialOutcome{Address: o.GetAddress(), PeerID: o.GetPeerId(), Took: o.GetTook().AsDuration(), Err: fromErrorPB(o.GetError())}
}

func fromEvent(e *marketpb.WatchResponse) shared.Event {
	return shared.Event{
		Kind: shared.EventKind(e.GetKind()), Time: fromTime(e.GetTime()), Package: fromSummary(e.GetPackage()), PeerID: e.GetPeerId(),
		Lost: int(e.GetLost()), Message: e.GetMessage(),
	}
}
