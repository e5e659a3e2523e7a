//go:build !ggen_faults

package main

import "google.golang.org/grpc"

// faultOptions break nothing in an engine that is shipped.
func faultOptions() []grpc.ServerOption { return nil }
