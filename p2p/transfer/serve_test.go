package transfer_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"testing"

	"github.com/libp2p/go-libp2p/core/network"

	"ggen.dev/marketplace/p2p/transfer"
	"ggen.dev/marketplace/shared"
)

func TestServerLimits(t *testing.T) {
	data := content(chunkSize)
	digest := shared.DigestOf(data)
	h := loopbackHost(t)
	server, err := transfer.Serve(h, func(shared.Digest) (transfer.Blob, error) { return memory{data: data}, nil }, transfer.Limits{Streams: 3, StreamsPerPeer: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Close() }()
	occupy := func(count int) (release func()) {
		greedy := loopbackHost(t)
		if err := greedy.Connect(t.Context(), info(h)); err != nil {
			t.Fatal(err)
		}
		before := server.Streams()
		var streams []network.Stream
		for range count {
			s, err := greedy.NewStream(t.Context(), h.ID(), transfer.Protocol)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = s.Write([]byte{1}) // negotiates
			streams = append(streams, s)
		}
		eventually(t, "streams to be served", func() bool { return server.Streams() == before+min(count, 2) })
		return func() {
			for _, s := range streams {
				_ = s.Reset()
			}
		}
	}
	release := occupy(5)
	if server.Streams() != 2 {
		t.Fatalf("one peer has %d streams", server.Streams())
	}
	t.Run("others are still served", func(t *testing.T) {
		if _, _, err := client(t, transfer.Config{}).FetchBlobs(t.Context(), []transfer.Want{{digest, chunkSize}}, chunkSize, candidates(info(h))); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("who finds no place hears busy, and comes again", func(t *testing.T) {
		occupy(1)
		seen := &outcomes{}
		c := client(t, transfer.Config{Observe: func(ctx context.Context, o transfer.Outcome) {
			seen.observe(ctx, o)
			if o.Kind == transfer.Busy {
				release()
			}
		}})
		if _, _, err := c.FetchBlobs(t.Context(), []transfer.Want{{digest, chunkSize}}, chunkSize, candidates(info(h))); err != nil {
			t.Fatal(err)
		}
		if got := seen.of(h.ID()); !slices.Contains(got, transfer.Busy) || !slices.Contains(got, transfer.Delivered) {
			t.Fatalf("outcomes %v", got)
		}
	})
	t.Run("a peer that breaks the protocol loses its stream", func(t *testing.T) {
		eventually(t, "room", func() bool { return server.Streams() <= 1 })
		rude := loopbackHost(t)
		if err := rude.Connect(t.Context(), info(h)); err != nil {
			t.Fatal(err)
		}
		s, err := rude.NewStream(t.Context(), h.ID(), transfer.Protocol)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = s.Write(make([]byte, 46))
		if _, err := s.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
			t.Fatalf("the answer is %v", err)
		}
	})
	t.Run("Close breaks off what is under way", func(t *testing.T) {
		for range 2 {
			if err := server.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if server.Streams() != 0 {
			t.Fatalf("%d streams are left", server.Streams())
		}
	})
}

func TestManyDownloadsFromOnePeer(t *testing.T) {
	blobs := map[shared.Digest][]byte{}
	for i := range 60 {
		data := content(1000 + i)
		blobs[shared.DigestOf(data)] = data
	}
	h := loopbackHost(t)
	server, err := transfer.Serve(h, func(d shared.Digest) (transfer.Blob, error) { return memory{data: blobs[d]}, nil }, transfer.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Close() }()
	seen := &outcomes{}
	c := client(t, transfer.Config{Observe: seen.observe})
	var group sync.WaitGroup
	for digest, data := range blobs {
		group.Go(func() {
			got, _, err := c.FetchBlobs(t.Context(), []transfer.Want{{digest, int64(len(data))}}, 1<<20, candidates(info(h)))
			if err != nil || !bytes.Equal(got[0], data) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
	}
	group.Wait()
	for _, kind := range seen.of(h.ID()) {
		if kind != transfer.Delivered {
			t.Errorf("the peer had to answer %s", kind)
		}
	}
}
