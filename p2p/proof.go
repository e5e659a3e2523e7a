package p2p

import (
	"context"
	"encoding/json"
	"strings"

	"ggen.dev/marketplace/p2p/catalog"
	"ggen.dev/marketplace/p2p/publisher"
	"ggen.dev/marketplace/shared"
)

// maxForkProof bounds a proof that is to be verified, in bytes: a chain of the
// largest length and all else at its limit has fewer.
const maxForkProof = 1 << 20

// ForkProof exports what convicts a publisher; see [shared.Trust].
func (e *Engine) ForkProof(ctx context.Context, id shared.PublisherID) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, shared.AsError(err)
	}
	id, err := shared.ParsePublisherID(string(id))
	if err != nil {
		return nil, err
	}
	forks, err := e.catalog.Forks()
	if err != nil {
		return nil, err
	}
	for _, fork := range forks {
		convicted, err := fork.Verify()
		if err == nil && strings.HasPrefix(string(convicted), string(id)) {
			return json.MarshalIndent(fork, "", "  ")
		}
	}
	return nil, shared.NewError(shared.ReasonNotFound, "there is no proof here that publisher %s signed two different logs", id.Short())
}

// CheckForkProof verifies what [Engine.ForkProof] exported; see [shared.Trust].
func (e *Engine) CheckForkProof(ctx context.Context, proof []byte) (shared.ForkVerdict, error) {
	if err := ctx.Err(); err != nil {
		return shared.ForkVerdict{}, shared.AsError(err)
	}
	var f catalog.Fork
	if len(proof) > maxForkProof || json.Unmarshal(proof, &f) != nil {
		return shared.ForkVerdict{}, shared.NewError(shared.ReasonInvalidArgument, "this is not a proof that a publisher signed two logs").
			WithHint("`ggen marketplace trust proof PUBLISHER` writes one")
	}
	fork, chain, err := publisher.ReadFork(f.Roots, f.First, f.Second, f.Size, f.FirstTree, f.SecondTree)
	if err != nil {
		return shared.ForkVerdict{}, shared.NewError(shared.ReasonIntegrity, "the proof proves nothing: %w", err)
	}
	_, quarantined := e.catalog.Quarantined(chain.ID)
	return shared.ForkVerdict{
		Publisher: chain.ID, Size: fork.Size, Quarantined: quarantined,
		First:     digestOfHash(fork.FirstTree.Hash),
		Second:    digestOfHash(fork.SecondTree.Hash),
		FirstTime: fork.First.Time.UTC(), SecondTime: fork.Second.Time.UTC(),
	}, nil
}
