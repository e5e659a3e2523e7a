// Package shared is the contract between the ggen host and a marketplace engine.
//
// It holds the vocabulary that both sides speak: the [Marketplace] interface,
// the domain types it takes and returns, and [Error] with its reasons. Package
// shared/rpc carries exactly this contract over gRPC; package shared/conformance
// tells whether an implementation keeps it.
//
// It does not know how an engine finds or moves anything (package p2p does), nor
// how results are printed (package host does), and it imports nothing of ours.
package shared
