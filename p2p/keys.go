package p2p

import (
	"context"
	"encoding/base64"
	"slices"
	"strings"
	"time"

	"ggen.dev/marketplace/p2p/publisher"
	"ggen.dev/marketplace/shared"
)

const (
	// renewEvery is how often it is looked after whether the own head needs a beacon.
	renewEvery = 6 * time.Hour

	// maxVoid bounds the entries that a recovery lists.
	maxVoid = 100
)

// PublisherKeys tells who publishes from here; see [shared.Keys].
func (e *Engine) PublisherKeys(ctx context.Context) (shared.PublisherKeys, error) {
	if err := ctx.Err(); err != nil {
		return shared.PublisherKeys{}, shared.AsError(err)
	}
	return e.keysOf(e.ring.Chain()), nil
}

// keysOf lists the keys of a chain, of which the newest document need not be in force.
func (e *Engine) keysOf(chain publisher.Chain) shared.PublisherKeys {
	current := chain.Current()
	keys := shared.PublisherKeys{Publisher: chain.ID, Root: current.Version, Threshold: current.Threshold}
	if _, head, ok := e.catalog.Head(chain.ID); ok {
		keys.LogSize, keys.HeadTime = head.Size, head.Time.UTC()
	}
	keys.Recovery = publisher.RecoveryFingerprint(current)
	list := func(public publisher.PublicKey, current bool) {
		fingerprint := publisher.Fingerprint(public)
		if !slices.ContainsFunc(keys.Keys, func(k shared.SignerKey) bool { return k.Fingerprint == fingerprint }) {
			keys.Keys = append(keys.Keys, shared.SignerKey{
				Fingerprint: fingerprint, Public: base64.StdEncoding.EncodeToString(public), Held: e.ring.Holds(public) != nil, Current: current,
			})
		}
	}
	for _, public := range current.Keys {
		list(public, true)
	}
	for _, root := range slices.Backward(chain.Roots) {
		for _, public := range root.Keys {
			list(public, false)
		}
	}
	for _, key := range e.ring.Keys() {
		list(key.Public(), false)
	}
	return keys
}

// MakeKey makes a key for elsewhere; see [shared.Keys].
func (e *Engine) MakeKey(ctx context.Context, passphrase string) (shared.SealedKey, error) {
	if err := ctx.Err(); err != nil {
		return shared.SealedKey{}, shared.AsError(err)
	}
	key, err := publisher.GenerateKey()
	if err != nil {
		return shared.SealedKey{}, err
	}
	return sealed(publisher.Sealed{Key: key}, passphrase)
}

// ExportKey encrypts a key that is held; see [shared.Keys].
func (e *Engine) ExportKey(ctx context.Context, fingerprint, passphrase string) (shared.SealedKey, error) {
	if err := ctx.Err(); err != nil {
		return shared.SealedKey{}, shared.AsError(err)
	}
	chain := e.ring.Chain()
	var found []*publisher.Key
	for _, key := range e.ring.Keys() {
		name := publisher.Fingerprint(key.Public())
		current := slices.ContainsFunc(chain.Current().Keys, func(k []byte) bool { return key.Public().Equal(publisher.PublicKey(k)) })
		if fingerprint != "" && strings.HasPrefix(name, fingerprint) || fingerprint == "" && current {
			found = append(found, key)
		}
	}
	switch {
	case len(found) == 0:
		return shared.SealedKey{}, shared.NewError(shared.ReasonNotFound, "no key %s is held here", fingerprint).
			WithHint("`ggen marketplace key show` lists the keys")
	case len(found) > 1:
		return shared.SealedKey{}, shared.NewError(shared.ReasonAmbiguous, "%d keys are held here", len(found)).
			WithHint("name one by its fingerprint: `ggen marketplace key show` lists them")
	}
	mark, err := e.ring.Mark(chain.ID)
	if err != nil {
		return shared.SealedKey{}, err
	}
	return sealed(publisher.Sealed{Key: found[0], Chain: chain, Mark: mark}, passphrase)
}

func sealed(s publisher.Sealed, passphrase string) (shared.SealedKey, error) {
	data, err := publisher.Seal(s, passphrase)
	if err != nil {
		return shared.SealedKey{}, err
	}
	public := s.Key.Public()
	return shared.SealedKey{Fingerprint: publisher.Fingerprint(public), Public: base64.StdEncoding.EncodeToString(public), Sealed: data}, nil
}

// ChangeKeys changes who may sign; see [shared.Keys].
func (e *Engine) ChangeKeys(ctx context.Context, change shared.KeyChange) (receipt shared.KeyReceipt, err error) {
	if err := ctx.Err(); err != nil {
		return receipt, shared.AsError(err)
	}
	e.keysChange.Lock()
	defer e.keysChange.Unlock()
	switch change.Action {
	case shared.KeyInit:
		err = e.initKeys(change, &receipt)
	case shared.KeyRotate:
		err = e.rotateKeys(change, &receipt)
	case shared.KeyImport:
		err = e.importKeys(change, &receipt)
	case shared.KeyRecover:
		err = e.recoverKeys(change, &receipt)
	default:
		err = shared.NewError(shared.ReasonInvalidArgument, "there is nothing to do with keys that is called %q", change.Action)
	}
	if err != nil || change.DryRun {
		return receipt, named(err, "key %s", change.Action)
	}
	if receipt.Announced, err = e.renew(ctx); err != nil {
		return receipt, named(err, "key %s: the keys have changed, and the log is to follow", change.Action)
	}
	receipt.Keys = e.keysOf(e.ring.Chain())
	return receipt, nil
}

// unused tells whether nobody can know this home's publisher yet.
func (e *Engine) unused() (bool, error) {
	chain := e.ring.Chain()
	mark, err := e.ring.Mark(chain.ID)
	_, _, known := e.catalog.Head(chain.ID)
	return err == nil && !known && mark.Size == 0 && !e.ring.Made(), err
}

func (e *Engine) initKeys(change shared.KeyChange, receipt *shared.KeyReceipt) error {
	unused, err := e.unused()
	if err != nil {
		return err
	}
	if !unused {
		return shared.NewError(shared.ReasonInvalidArgument, "this home has a publisher already: %s", e.ring.ID().Short()).
			WithHint("`ggen marketplace key rotate` changes its keys; for another publisher take another home (GGEN_HOME)")
	}
	root := e.ring.Chain().Current()
	added, err := e.compose(&root, change)
	if err != nil {
		return err
	}
	signers := append(e.ring.Keys(), added...)
	return e.adopt(publisher.Chain{}, root, added, signersOf(root, signers), change.DryRun, receipt)
}

func (e *Engine) rotateKeys(change shared.KeyChange, receipt *shared.KeyReceipt) error {
	chain := e.ring.Chain()
	if known, _, ok := e.catalog.Head(chain.ID); ok && !chain.Continues(known) {
		return shared.NewError(shared.ReasonUntrusted, "the newest keys of your publisher are not those in this home").
			WithHint("import them from the home where they were made, or `ggen marketplace key recover` if it was not you")
	}
	before, err := e.ring.Signers()
	if err != nil {
		return err
	}
	if change.Add == 0 && len(change.Drop)+len(change.Include) == 0 && change.Threshold == 0 && change.Recovery == "" {
		change.Drop, change.Add = []string{"*"}, len(chain.Current().Keys)
	}
	root := chain.Current()
	keep, err := e.catalog.KeepAt(chain.ID, e.catalog.Held(chain.ID))
	if err != nil {
		return err
	}
	root.Version, root.Recovers, root.Keep = root.Version+1, false, &keep
	added, err := e.compose(&root, change)
	if err != nil {
		return err
	}
	return e.adopt(chain, root, added, append(before, signersOf(root, append(e.ring.Keys(), added...))...), change.DryRun, receipt)
}

func (e *Engine) importKeys(change shared.KeyChange, receipt *shared.KeyReceipt) error {
	if len(change.Sealed) == 0 {
		return shared.NewError(shared.ReasonInvalidArgument, "no key is given")
	}
	for _, data := range change.Sealed {
		s, err := publisher.Unseal(data, change.Passphrase)
		if err != nil {
			return err
		}
		if err := e.importKey(s, change.DryRun); err != nil {
			return err
		}
	}
	receipt.Keys = e.keysOf(e.ring.Chain())
	return nil
}

func (e *Engine) importKey(s publisher.Sealed, dryRun bool) error {
	own := e.ring.Chain()
	chain := s.Chain
	if known, _, ok := e.catalog.Head(chain.ID); ok && known.Continues(chain) && s.Key != nil && lists(known.Current(), s.Key) {
		chain = known // it was exported before the newest change of keys
	}
	switch {
	case chain.ID == "" && !lists(own.Current(), s.Key):
		return shared.NewError(shared.ReasonInvalidArgument, "root document %d of this home's publisher does not list the key %s", own.Current().Version, publisher.Fingerprint(s.Key.Public())).
			WithHint("`ggen marketplace key rotate --include %s` lets it sign; a recovery key is for `key recover` and is kept elsewhere", s.Key)
	case chain.ID == "":
		chain = own
	case chain.ID != own.ID:
		unused, err := e.unused()
		if err != nil {
			return err
		}
		if !unused {
			return shared.NewError(shared.ReasonUntrusted, "this key is publisher %s's, and this home is %s's", chain.ID.Short(), own.ID.Short()).
				WithHint("import it into another home: GGEN_HOME=FOLDER ggen marketplace key import …")
		}
	case own.Continues(chain):
		chain = own
	case !chain.Continues(own):
		return shared.NewError(shared.ReasonUntrusted, "the key was exported with other root documents than those of this home").
			WithHint("one of the two was changed by somebody else: `ggen marketplace key recover` settles that")
	}
	if dryRun {
		return nil
	}
	if err := e.ring.Add(s.Key); err != nil {
		return err
	}
	mark, err := e.ring.Mark(chain.ID)
	if err != nil {
		return err
	}
	if s.Mark.Size > mark.Size {
		// What was signed elsewhere must come from the network before more is signed.
		if err := e.ring.SetMark(s.Mark); err != nil {
			return err
		}
	}
	return e.ring.SetChain(chain)
}

func (e *Engine) recoverKeys(change shared.KeyChange, receipt *shared.KeyReceipt) error {
	if len(change.Sealed) != 1 {
		return shared.NewError(shared.ReasonInvalidArgument, "%d recovery keys are given; one is needed", len(change.Sealed))
	}
	s, err := publisher.Unseal(change.Sealed[0], change.Passphrase)
	if err != nil {
		return err
	}
	chain, err := e.recoverable(change.Publisher, s.Key)
	if err != nil {
		return err
	}
	if change.Keep < 0 {
		change.Keep = e.catalog.Held(chain.ID)
	}
	keep, err := e.catalog.KeepAt(chain.ID, change.Keep)
	if err != nil {
		return err
	}
	lines, err := e.catalog.Lines(chain.ID, keep.Size, maxVoid)
	if err != nil {
		return err
	}
	for _, l := range lines {
		receipt.Void = append(receipt.Void, shared.LogEntry{Entry: l.Entry, Time: l.Time.UTC(), Text: l.Text})
	}
	receipt.VoidTotal = e.catalog.Held(chain.ID) - keep.Size
	root := chain.Current()
	root.Version, root.Recovers, root.Keep = root.Version+1, true, &keep
	if change.Add == 0 && len(change.Include) == 0 {
		change.Add = 1
	}
	change.Drop = []string{"*"} // whichever was stolen
	if change.Threshold == 0 {
		change.Threshold = min(root.Threshold, change.Add+len(change.Include))
	}
	added, err := e.compose(&root, change)
	if err != nil {
		return err
	}
	return e.adopt(chain, root, added, append(signersOf(root, append(e.ring.Keys(), added...)), s.Key), change.DryRun, receipt)
}

// recoverable are the root documents that a recovery goes on from: as this home knows
// them, for what came after may be a thief's; or, in a home that has not published, as
// the network does, up to the newest that names the recovery key.
func (e *Engine) recoverable(id shared.PublisherID, key *publisher.Key) (publisher.Chain, error) {
	chain := e.ring.Chain()
	known, _, _ := e.catalog.Head(chain.ID)
	if id != "" && !strings.HasPrefix(string(chain.ID), string(id)) {
		unused, err := e.unused()
		if err != nil {
			return chain, err
		}
		if !unused {
			return chain, shared.NewError(shared.ReasonUntrusted, "this home is publisher %s's", chain.ID.Short()).
				WithHint("recover another one in another home: GGEN_HOME=FOLDER ggen marketplace key recover …")
		}
		if chain, _, _ = e.catalog.Head(id); chain.ID == "" {
			return chain, shared.NewError(shared.ReasonNotFound, "no log of publisher %s is here; its full ID is needed", id.Short()).
				WithHint("connect to peers first: `ggen marketplace p2p bootstrap ADDRESS`")
		}
		known = chain
	}
	for n := len(chain.Roots); n > 0; n-- {
		if string(chain.Roots[n-1].Recovery) == string(publisher.RecoveryHash(key.Public())) {
			return publisher.ParseChain(chain.Signed()[:n])
		}
	}
	for _, root := range known.Roots {
		if string(root.Recovery) == string(publisher.RecoveryHash(key.Public())) {
			return chain, shared.NewError(shared.ReasonUntrusted, "only a root document that was not made in this home names this recovery key")
		}
	}
	return chain, shared.NewError(shared.ReasonUntrusted, "this is not the recovery key of publisher %s", chain.ID.Short()).
		WithHint("`ggen marketplace key show` tells the fingerprint of the right one")
}

// compose changes a root document as it is asked for, and makes the keys that it asks
// for, which are stored nowhere yet.
func (e *Engine) compose(root *publisher.Root, change shared.KeyChange) (added []*publisher.Key, err error) {
	keys := root.Keys
	for _, drop := range change.Drop {
		left := slices.DeleteFunc(slices.Clone(keys), func(k []byte) bool {
			return drop == "*" || drop != "" && strings.HasPrefix(publisher.Fingerprint(k), drop)
		})
		switch dropped := len(keys) - len(left); {
		case dropped == 0:
			return nil, shared.NewError(shared.ReasonNotFound, "root document %d lists no key %s", root.Version-1, drop).
				WithHint("`ggen marketplace key show` lists the keys")
		case dropped > 1 && drop != "*":
			return nil, shared.NewError(shared.ReasonAmbiguous, "%s are %d keys", drop, dropped)
		}
		keys = left
	}
	for _, text := range change.Include {
		public, err := publicKey(text)
		if err != nil {
			return nil, err
		}
		keys = append(keys, public)
	}
	if change.Add < 0 || len(keys)+change.Add > publisher.MaxKeys {
		return nil, shared.NewError(shared.ReasonInvalidArgument, "%d keys; 1 to %d are allowed", len(keys)+change.Add, publisher.MaxKeys)
	}
	for range change.Add {
		key, err := publisher.GenerateKey()
		if err != nil {
			return nil, err
		}
		added, keys = append(added, key), append(keys, key.Public())
	}
	switch {
	case change.Threshold != 0:
		root.Threshold = change.Threshold
	case len(keys) > 0:
		root.Threshold = min(root.Threshold, len(keys))
	}
	if len(keys) == 0 || root.Threshold < 1 || root.Threshold > len(keys) {
		return nil, shared.NewError(shared.ReasonInvalidArgument, "%d of %d keys would have to sign", root.Threshold, len(keys)).
			WithHint("a publisher has at least one key, and its threshold is at most as large as their number")
	}
	root.Keys = keys
	switch change.Recovery {
	case "":
	case "-":
		root.Recovery = nil
	default:
		public, err := publicKey(change.Recovery)
		if err != nil {
			return nil, err
		}
		root.Recovery = publisher.RecoveryHash(public)
	}
	return added, nil
}

func publicKey(text string) (publisher.PublicKey, error) {
	public, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || len(public) != 32 {
		return nil, shared.NewError(shared.ReasonInvalidArgument, "%.60q is not a public key", text).
			WithHint("it has 44 characters of base64; `key make` and `key show` print it")
	}
	return public, nil
}

func lists(root publisher.Root, key *publisher.Key) bool {
	return slices.ContainsFunc(root.Keys, func(k []byte) bool { return key.Public().Equal(publisher.PublicKey(k)) })
}

// signersOf are those of the keys that a root document lists.
func signersOf(root publisher.Root, keys []*publisher.Key) (signers []*publisher.Key) {
	for _, key := range keys {
		if lists(root, key) {
			signers = append(signers, key)
		}
	}
	return signers
}

// adopt signs a root document, checks that it follows chain, and makes it the newest
// of the keyring: first the new keys, then the document.
func (e *Engine) adopt(chain publisher.Chain, root publisher.Root, added, signers []*publisher.Key, dryRun bool, receipt *shared.KeyReceipt) error {
	if root.Version > publisher.MaxRoots {
		return shared.NewError(shared.ReasonLimitExceeded, "the publisher has had %d root documents; that is the limit", publisher.MaxRoots).
			WithHint("make a new publisher in another home, and deprecate the old one's packages")
	}
	slices.SortFunc(signers, func(a, b *publisher.Key) int { return strings.Compare(a.String(), b.String()) })
	signed, err := publisher.SignRoot(root, slices.CompactFunc(signers, func(a, b *publisher.Key) bool { return a.String() == b.String() })...)
	if err != nil {
		return err
	}
	next, err := publisher.ParseChain(append(slices.Clone(chain.Signed()), signed))
	if err != nil {
		return shared.NewError(shared.ReasonUntrusted, "the keys that are here cannot do that: %w", err).
			WithHint("of the new keys, too, as many as the threshold must be here: import them first (`ggen marketplace key import FILE`)")
	}
	receipt.Keys = e.keysOf(next)
	if dryRun {
		return nil
	}
	for _, key := range added {
		if err := e.ring.Add(key); err != nil {
			return err
		}
	}
	return e.ring.SetChain(next)
}

// renew brings the own log up to date with the keys, and its head's time with ours,
// and tells the network. It returns how many peers were told.
func (e *Engine) renew(ctx context.Context) (told int, err error) {
	id := e.ring.ID()
	names := e.catalog.Names(id) // a recovery makes some of them void
	update, err := e.catalog.Renew(e.ring)
	if err != nil || update == nil {
		return 0, err
	}
	for _, name := range names {
		e.index(name, id)
	}
	told, err = e.announce(ctx, *update)
	if err != nil {
		e.log.WarnContext(ctx, "announce new keys", "error", err) // it is durable, and travels when peers meet
	}
	e.background(func(ctx context.Context) { _, _ = e.routing.PutHead(ctx, id, e.headRecord(id)) })
	return told, nil
}

// keepFresh renews the head while the engine runs, so that peers can tell a publisher
// who has nothing to say from one who is kept from them.
func (e *Engine) keepFresh(ctx context.Context) {
	tick := time.NewTicker(renewEvery)
	defer tick.Stop()
	for {
		if _, err := e.renew(ctx); err != nil {
			e.log.WarnContext(ctx, "renew the head of the own log", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
