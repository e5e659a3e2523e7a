package rpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"pgregory.net/rapid"

	"ggen.dev/marketplace/shared"
	"ggen.dev/marketplace/shared/rpc/marketpb"
)

func TestReasonsAreTheProtosEnum(t *testing.T) {
	for _, reason := range shared.Reasons() {
		if _, ok := marketpb.Reason_value["REASON_"+string(reason)]; !ok {
			t.Errorf("the proto does not know %s", reason)
		}
		if codeOf(reason) == codes.Unknown || codeOf(reason) == codes.OK {
			t.Errorf("%s has no gRPC code", reason)
		}
	}
	if got, want := len(marketpb.Reason_value)-1, len(shared.Reasons()); got != want {
		t.Errorf("the proto has %d reasons, package shared has %d", got, want)
	}
}

func TestErrorsCrossTheWire(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sent := shared.NewError(shared.Reason(rapid.StringMatching(`[A-Z_]{1,20}`).Draw(t, "reason")), "%s", rapid.StringN(0, 100, 400).Draw(t, "message"))
		sent.Hint = rapid.StringN(0, 50, 200).Draw(t, "hint")
		sent.Retryable = rapid.Bool().Draw(t, "retryable")
		for _, key := range rapid.SliceOfN(rapid.StringMatching(`[a-z]{1,8}`), 0, 5).Draw(t, "keys") {
			sent = sent.With(key, "value of "+key)
		}
		got := shared.AsError(fromStatus(context.Background(), toStatus(fmt.Errorf("%w", sent))))
		if diff := cmp.Diff(sent, got, cmpopts.IgnoreUnexported(shared.Error{}), cmpopts.EquateEmpty()); diff != "" {
			t.Fatal(diff)
		}
		if !errors.Is(got, sent.Reason) {
			t.Fatalf("%v is not %s", got, sent.Reason)
		}
	})
}

func TestNoErrorBecomesASuccess(t *testing.T) {
	for name, err := range map[string]error{
		"foreign":              errors.New("boom"),
		"no reason":            &shared.Error{},
		"reason of the future": &shared.Error{Reason: "QUANTUM_DECOHERENCE", Message: "m"},
		"not UTF-8":            shared.NewError("\xff\xfe", "%s", "\xff"),
		"huge":                 shared.NewError(shared.ReasonInternal, "%s", strings.Repeat("x", 10<<20)).WithHint("%s", strings.Repeat("y", 10<<20)).With("k", strings.Repeat("z", 10<<20)),
	} {
		t.Run(name, func(t *testing.T) {
			wire := toStatus(err)
			if wire == nil || status.Code(wire) == codes.OK {
				t.Fatalf("%v became %v", err, wire)
			}
			if size := proto.Size(status.Convert(wire).Proto()); size > 64<<10 {
				t.Fatalf("the status has %d bytes", size)
			}
			if fromStatus(t.Context(), wire) == nil {
				t.Fatal("it arrived as nothing")
			}
		})
	}
	if toStatus(nil) != nil || fromStatus(t.Context(), nil) != nil {
		t.Fatal("nil did not stay nil")
	}
}

// TestPinnedBehaviourOfGRPC holds what DESIGN D10 found out, so that a new
// version that behaves otherwise is noticed.
func TestPinnedBehaviourOfGRPC(t *testing.T) {
	t.Run("a status OK with details is nil on the other side", func(t *testing.T) {
		detail, err := anypb.New(&marketpb.Diagnostic{Message: "x"})
		if err != nil {
			t.Fatal(err)
		}
		if err := status.FromProto(&spb.Status{Code: int32(codes.OK), Details: []*anypb.Any{detail}}).Err(); err != nil {
			t.Fatalf("got %v", err)
		}
	})
	t.Run("a status is no context error, and ours is", func(t *testing.T) {
		wire := status.FromContextError(context.DeadlineExceeded).Err()
		if errors.Is(wire, context.DeadlineExceeded) {
			t.Fatal("gRPC changed: the conversion may be simpler now")
		}
		if got := fromStatus(t.Context(), wire); !errors.Is(got, context.DeadlineExceeded) || !errors.Is(got, shared.ReasonDeadlineExceeded) {
			t.Fatalf("got %v", got)
		}
	})
}

func TestStatusesThatNoEngineMade(t *testing.T) {
	for code, want := range map[codes.Code]shared.Reason{
		codes.Unavailable:       shared.ReasonEngineFailed,
		codes.Unimplemented:     shared.ReasonUnimplemented,
		codes.ResourceExhausted: shared.ReasonLimitExceeded,
		codes.Canceled:          shared.ReasonCanceled,
		codes.DeadlineExceeded:  shared.ReasonDeadlineExceeded,
		codes.Unknown:           shared.ReasonInternal,
		codes.Internal:          shared.ReasonInternal,
	} {
		if err := fromStatus(t.Context(), status.Error(code, "text")); !errors.Is(err, want) || !strings.Contains(err.Error(), "text") {
			t.Errorf("%s became %v, want %s", code, err, want)
		}
	}
}

func FuzzErrorDecoding(f *testing.F) {
	seed, err := proto.Marshal(status.Convert(toStatus(shared.NewError(shared.ReasonNotFound, "x").WithHint("y").With("a", "b"))).Proto())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte("\x08\x05\x12\x01x"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var pb spb.Status
		if proto.Unmarshal(data, &pb) != nil {
			return
		}
		wire := status.FromProto(&pb).Err()
		if got := fromStatus(context.Background(), wire); (wire == nil) != (got == nil) {
			t.Fatalf("%v became %v", wire, got)
		}
	})
}

func TestValuesCrossTheWire(t *testing.T) {
	now := time.Unix(1_800_000_000, 123).UTC()
	summary := shared.PackageSummary{
		Name: "n", Publisher: "p", Version: "1.0.0", Title: "t", Description: "d", Author: "a", Category: "c", License: "MIT",
		Tags: []string{"x", "y"}, PublishedAt: now, Score: 1.5, Matches: []string{"m"},
	}
	deps := []shared.Dependency{{Publisher: "p", Name: "d", Constraint: "^1", Optional: true}}
	notes := []shared.Diagnostic{{Severity: shared.SeverityWarning, Reason: shared.ReasonNoPeers, Message: "m", Hint: "h"}}
	locked := shared.LockedPackage{Name: "n", Publisher: "p", Version: "1.0.0", Digest: "sha256:x", Dependencies: []string{"d"}}
	details := shared.PackageDetails{
		PackageSummary: summary, Digest: "sha256:x", Size: 1, FileCount: 2, Keywords: []string{"k"}, Repository: "r", Dependencies: deps,
		Versions: []shared.VersionInfo{{Version: "1.0.0", Digest: "sha256:x", Size: 3, PublishedAt: now, FirstSeen: now, Yanked: true}},
		Extra:    map[string]string{"e": "v"}, Held: true, Providers: -1, Holders: 4, PinnedTo: "p", Diagnostics: notes,
		Readme: "README.md", Ggen: ">=6", Inputs: []shared.Input{{Name: "i", Type: "string", Required: true, Default: "d", Description: "t"}},
	}
	unknown := details
	unknown.Holders = -1
	files := []shared.FileInfo{{Path: "f", Size: 1, Executable: true, Digest: "sha256:x"}}
	receipt := shared.PublishReceipt{
		Package: "n", Version: "1.0.0", Publisher: "p", Digest: "sha256:x", Size: 4, Files: files, Dependencies: deps, LogSize: 5,
		Unchanged: true, DryRun: true, Announced: 6, Recorded: 7, Diagnostics: notes, Manifest: "[package]\n", Statement: "{}",
		Findings: []shared.Finding{{Severity: shared.SeverityError, Rule: "license", File: "package.toml", Line: 3, Column: 1, Message: "m", Fix: "f"}},
	}
	install := shared.InstallRequest{
		Packages: []shared.Ref{{Publisher: "p", Name: "n", Constraint: "^1"}}, Root: "/r", Locked: []shared.LockedPackage{locked},
		Trust: true, Force: true, Offline: true, DryRun: true, Accepted: []shared.LockedPackage{locked}, Policy: shared.PolicyAllowList, MinAge: time.Hour,
		MaxFiles: 7, MaxBytes: 8, Executables: true,
	}
	installed := shared.InstalledPackage{
		LockedPackage: locked, Path: "/p", Title: "t", Description: "d", Requested: true, Unchanged: true, Fetched: 8, Peers: 9, FirstUse: true,
	}
	node := shared.NodeStatus{
		PeerID: "i", ListenAddresses: []string{"/a"}, Reachability: "public", DHTMode: "server", BootstrapCount: 1, ConnectedPeers: 2, KnownPeers: 3,
		RoutingTable: 4, Publisher: "p", Publishers: 5, Releases: 6, HeldPackages: 7, HeldBytes: 8, StartedAt: now, Version: "v", Staying: true, Diagnostics: notes,
		Mode: "light", PeerTable: 9, DHTServers: 10, InboundPeers: 11, Entries: 12, NewestHead: now, ReceivedBytes: 13, SentBytes: 14, ReceiveRate: 1.5, SendRate: 2.5, CacheHits: 15, CacheMisses: 16,
	}
	peer := shared.Peer{
		ID: "i", Addresses: []string{"/a"}, Connections: []string{"/b"}, Agent: "g", Connected: true, Reputation: 0.5, SuccessfulRetrievals: 1, FailedRetrievals: 2,
		LastSeen: now, PackagesProvided: 3, AvgResponseTime: time.Second, AvgBandwidth: 1.5, Score: []shared.ScorePart{{Name: "n", Value: 0.25, Weight: 0.5}},
		Outcomes: map[string]int64{"stalled": 4}, ReceivedBytes: 5, Downloads: 6, FirstSeen: now, LastSuccess: now, LastFailure: now, LastFailureKind: "stalled",
		FailuresInRow: 7, RestsUntil: now, BannedUntil: now, BannedFor: "flooded", Location: &shared.Location{Latitude: -48, Longitude: 11, Region: "r"},
	}
	outcome := shared.DialOutcome{Address: "/a", PeerID: "i", Took: time.Second, Err: shared.NewError(shared.ReasonTimeout, "m").WithHint("h").With("k", "v")}
	event := shared.Event{Kind: shared.EventRelease, Time: now, Package: summary, PeerID: "i", Lost: 1, Message: "m"}
	engine := shared.EngineInfo{Name: "n", Version: "v", Protocols: []int{1, 2}, InstanceID: "i", Capabilities: []string{"c"}, PID: 3, StartedAt: now}
	query := shared.SearchQuery{Text: "t", Category: "c", Tag: "g", Publisher: "p", License: "l", Limit: 1, Offset: 2, Sort: shared.SortNewest, MinReputation: 0.25}
	progress := shared.Progress{Phase: shared.PhaseFetch, Package: "p", Done: 1, Total: 2, Message: "m"}
	verified := shared.VerifyResult{Name: "n", Version: "v", OK: true, Expected: "sha256:x", Found: "sha256:y", Problem: "p"}
	report := shared.TrustReport{
		Name: "n", Rule: shared.RuleCatalogue, Publisher: "p", Since: now, Catalogue: "c",
		Candidates: []shared.Candidate{{Publisher: "p", Newest: "1.0.0", Releases: 2, FirstSeen: now, Holders: -1}},
		LookAlikes: []shared.LookAlike{{Name: "m", Publisher: "p", Why: "w"}},
	}
	catalogue := shared.TrustCatalogue{Title: "t", Signer: "p", Serial: 3, Issued: now, Names: []shared.CatalogueName{{Name: "n", Publisher: "p"}}}
	verdict := shared.ForkVerdict{Publisher: "p", Size: 7, First: "sha256:x", Second: "sha256:y", FirstTime: now, SecondTime: now, Quarantined: true}
	exporting := shared.ExportRequest{File: "/f", Packages: install.Packages, Locked: []shared.LockedPackage{locked}, Offline: true}
	keys := shared.PublisherKeys{
		Publisher: "p", Root: 2, Threshold: 1, Recovery: "r", LogSize: 3, HeadTime: time.Unix(5, 0).UTC(),
		Keys: []shared.SignerKey{{Fingerprint: "f", Public: "q", Held: true, Current: true}},
	}
	sealed := shared.SealedKey{Fingerprint: "f", Public: "q", Sealed: []byte("s")}
	change := shared.KeyChange{
		Action: shared.KeyRotate, Publisher: "p", Sealed: [][]byte{{1}}, Passphrase: "x", Add: 1, Include: []string{"i"}, Drop: []string{"d"},
		Threshold: 2, Recovery: "r", Keep: -1, DryRun: true,
	}
	changed := shared.KeyReceipt{Keys: keys, Void: []shared.LogEntry{{Entry: 4, Time: time.Unix(6, 0).UTC(), Text: "t"}}, VoidTotal: 5, Announced: 6, Diagnostics: notes}
	exported := shared.ExportReceipt{Packages: []shared.LockedPackage{locked}, Bytes: 9, Diagnostics: notes}
	imported := shared.ImportReceipt{Packages: []shared.LockedPackage{locked}, Entries: 4}
	proven := shared.Provenance{
		Name: "n", Version: "1.0.0", Publisher: "p", File: files[0], Index: "sha256:x", Archive: "sha256:y", Entry: 1, EntryHash: "sha256:z", EntryTime: now,
		PathLength: 2, LogSize: 3, LogHash: "sha256:w", HeadTime: now, Rule: shared.RulePin,
		Roots: []shared.ProvenRoot{{Version: 1, Digest: "sha256:r", Keys: []string{"k"}, Threshold: 1, Recovers: true}},
	}
	for name, pair := range map[string][2]any{
		"keys":       {keys, fromKeys(toKeys(keys))},
		"key":        {sealed, fromSealed(toSealed(sealed))},
		"key change": {change, fromKeyChange(toKeyChange(change))},
		"changed":    {changed, fromKeyReceipt(toKeyReceipt(changed))},
		"export":     {exporting, fromExport(toExport(exporting))},
		"exported":   {exported, fromExportReceipt(toExportReceipt(exported))},
		"imported":   {imported, fromImportReceipt(toImportReceipt(imported))},
		"proven":     {proven, fromProvenance(toProvenance(proven))},
		"report":     {report, fromReport(toReport(report))},
		"catalogue":  {catalogue, fromCatalogue(toCatalogue(catalogue))},
		"verdict":    {verdict, fromVerdict(toVerdict(verdict))},
		"info":       {engine, fromInfo(toInfo(engine))},
		"search":     {query, fromSearch(toSearch(query))},
		"summary":    {summary, fromSummary(toSummary(summary))},
		"details":    {details, fromDetails(toDetails(details))},
		"unknown":    {unknown, fromDetails(toDetails(unknown))},
		"receipt":    {receipt, fromPublishReceipt(toPublishReceipt(receipt), each(each(files, toFile), fromFile))},
		"install":    {install, fromInstall(toInstall(install))},
		"installed":  {installed, fromInstalled(toInstalled(installed))},
		"status":     {node, fromNodeStatus(toNodeStatus(node))},
		"peer":       {peer, fromPeer(toPeer(peer))},
		"outcome":    {outcome, fromOutcome(toOutcome(outcome))},
		"event":      {event, fromEvent(toEvent(event))},
		"progress":   {progress, fromProgress(toProgress(progress))},
		"verify":     {verified, fromVerifyResult(toVerifyResult(verified))},
	} {
		if diff := cmp.Diff(pair[0], pair[1], cmpopts.IgnoreUnexported(shared.Error{})); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// TestGeneratedCodeIsCurrent regenerates the wire code as `make proto` does, and
// compares.
func TestGeneratedCodeIsCurrent(t *testing.T) {
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "go", "run", "github.com/bufbuild/buf/cmd/buf@v1.75.0", "generate", "-o", out)
	cmd.Dir = root
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("buf generate: %v\n%s", err, text)
	}
	for _, name := range []string{"marketplace.pb.go", "marketplace_grpc.pb.go"} {
		fresh, err := os.ReadFile(filepath.Join(out, "shared", "rpc", "marketpb", name))
		if err != nil {
			t.Fatal(err)
		}
		committed, err := os.ReadFile(filepath.Join("marketpb", name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(fresh, committed) {
			t.Errorf("%s is stale: run make proto", name)
		}
	}
}

// TestADeadlineThatPassesThereFirst: the engine's end of a call may see the deadline
// a moment before ours, and hangs up without a reason then.
func TestADeadlineThatPassesThereFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		const text = "stream terminated by RST_STREAM with error code: CANCEL"
		hungUp := status.Error(codes.Canceled, text)
		for _, err := range []error{hungUp, status.Error(codes.DeadlineExceeded, text)} { // gRPC has read the clock itself
			if err := fromStatus(ctx, err); !errors.Is(err, shared.ReasonDeadlineExceeded) || strings.Contains(err.Error(), text) {
				t.Errorf("around the deadline: %v", err)
			}
		}
		later, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := fromStatus(later, hungUp); errors.Is(err, shared.ReasonDeadlineExceeded) {
			t.Errorf("long before the deadline: %v", err)
		}
	})
}
