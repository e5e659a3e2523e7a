//go:build ggen_faults

package main

import (
	"bytes"
	"os"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"ggen.dev/marketplace/shared/rpc/marketpb"
)

// This file makes the engine of the tests that want to see a host survive: a
// search for "fault:NAME" breaks it in that way, and FaultVariable breaks its start.

// FaultVariable is the environment variable that makes a start go wrong.
const FaultVariable = "GGEN_FAULT"

func init() {
	if len(os.Args) > 1 && os.Args[1] == "describe" {
		return
	}
	switch os.Getenv(FaultVariable) {
	case "garbage":
		_, _ = os.Stdout.WriteString("1|2|these are|not the words\x00\xff you expect\n")
	case "silence":
		time.Sleep(time.Hour)
	case "flood-stdout":
		flood(os.Stdout)
	case "flood-stderr":
		flood(os.Stderr)
	case "exit":
		os.Exit(7)
	case "panic":
		panic("a fault before the engine is up")
	}
}

// flood writes 1 GiB, or what somebody who reads every line of it under the race detector takes
// in 20 s: a call may be silent for a minute.
func flood(file *os.File) {
	const longest = 20 * time.Second
	began := time.Now()
	chunk := bytes.Repeat([]byte("{\"@message\":1}\n"), 1<<16)
	for written := 0; written < 1<<30 && time.Since(began) < longest; written += len(chunk) {
		if _, err := file.Write(chunk); err != nil {
			return
		}
	}
}

// faultOptions break searches.
func faultOptions() []grpc.ServerOption {
	return []grpc.ServerOption{grpc.ChainStreamInterceptor(func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		if !strings.HasSuffix(info.FullMethod, "/Search") {
			return handler(srv, stream)
		}
		return handler(srv, &faultyStream{ServerStream: stream})
	})}
}

type faultyStream struct{ grpc.ServerStream }

// RecvMsg implements grpc.ServerStream: it sees the query before the engine does.
func (s *faultyStream) RecvMsg(message any) error {
	if err := s.ServerStream.RecvMsg(message); err != nil {
		return err
	}
	request, ok := message.(*marketpb.SearchRequest)
	if !ok {
		return nil
	}
	name, ok := strings.CutPrefix(request.GetText(), "fault:")
	if !ok {
		return nil
	}
	return s.fail(name)
}

func (s *faultyStream) fail(name string) error {
	switch name {
	case "panic-in-handler":
		panic("a fault in a handler")
	case "panic-in-background":
		go func() { panic("a fault in the background") }()
		select {}
	case "exit":
		os.Exit(3)
	case "deadlock":
		select {}
	case "memory":
		var hoard [][]byte
		for {
			hoard = append(hoard, bytes.Repeat([]byte{1}, 1<<20))
		}
	case "flood-stdout":
		flood(os.Stdout)
	case "flood-stderr":
		flood(os.Stderr)
	case "huge-error":
		st, err := status.New(codes.Internal, "a huge error").WithDetails(&errdetails.DebugInfo{Detail: strings.Repeat("x", 10<<20)})
		if err != nil {
			return err
		}
		return st.Err()
	case "endless-reply":
		reply := &marketpb.SearchResponse{}
		for range 1000 {
			reply.Packages = append(reply.Packages, &marketpb.PackageSummary{Name: "again", Description: strings.Repeat("and again ", 20)})
		}
		for {
			if err := s.SendMsg(reply); err != nil {
				return err
			}
		}
	}
	return nil
}
