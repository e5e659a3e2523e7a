package popularity

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"
)

// maxQueue bounds the packages that wait for a lookup; what comes when so many wait is
// not looked up, unless somebody wants it again.
const maxQueue = 256

// Config describes a [Survey].
type Config struct {
	// Lookup finds the peers other than this one that say they hold a package's newest
	// release now. asked is false if nobody could be asked, which is no observation.
	// Required. It is called from one goroutine.
	Lookup func(ctx context.Context, p Package) (found []Peer, asked bool)
	// Changed is told of every new estimate, from the same goroutine. Default: nobody is.
	Changed func(p Package, about float64)
	// Every is the least time between two lookups. Each visits some ten peers, which
	// have others to serve. Default: 2 s.
	Every time.Duration
	// Logger is told what happens. Default: discards.
	Logger *slog.Logger
}

// Survey brings a book up to date about packages that are wanted, one after the other.
// Its methods may be called concurrently.
type Survey struct {
	book     *Book
	cfg      Config
	queue    chan Package
	lifetime context.Context
	cancel   context.CancelFunc
	running  sync.WaitGroup

	mu      sync.Mutex // guards waiting
	waiting map[Package]bool
}

// NewSurvey starts a survey for a book. Close ends it; the book is the caller's.
func NewSurvey(book *Book, cfg Config) (*Survey, error) {
	switch {
	case book == nil:
		return nil, errors.New("popularity: no book")
	case cfg.Lookup == nil:
		return nil, errors.New("popularity: Config.Lookup is missing")
	}
	if cfg.Changed == nil {
		cfg.Changed = func(Package, float64) {}
	}
	if cfg.Every == 0 {
		cfg.Every = 2 * time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Survey{book: book, cfg: cfg, queue: make(chan Package, maxQueue), waiting: map[Package]bool{}}
	s.lifetime, s.cancel = context.WithCancel(context.Background())
	s.running.Go(s.run)
	return s, nil
}

// Want asks for packages to be looked up, unless they were within [FreshFor] or wait
// for it already. It returns at once.
func (s *Survey) Want(packages ...Package) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range packages {
		if s.waiting[p] || s.book.Fresh(p) {
			continue
		}
		select {
		case s.queue <- p:
			s.waiting[p] = true
		default:
			return // full
		}
	}
}

// Close ends the lookup that is going on, and waits for it. It is idempotent.
func (s *Survey) Close() error {
	s.cancel()
	s.running.Wait()
	return nil
}

func (s *Survey) run() {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-s.lifetime.Done():
			return
		case <-pause.C:
		}
		select {
		case <-s.lifetime.Done():
			return
		case p := <-s.queue:
			s.observe(p)
			pause.Reset(s.cfg.Every)
		}
	}
}

func (s *Survey) observe(p Package) {
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.waiting, p)
	}()
	found, asked := s.cfg.Lookup(s.lifetime, p)
	if !asked || s.lifetime.Err() != nil {
		return // what a lookup has found that was interrupted is not all there is
	}
	if err := s.book.Observe(p, found); err != nil {
		s.cfg.Logger.Warn("keep how many peers hold a package", "package", p.Name, "error", err)
	}
	if about, ok := s.book.Holders(p); ok {
		s.cfg.Changed(p, about)
	}
}
