package archive

import (
	"context"
	"errors"

	"ggen.dev/marketplace/shared"
)

// storage gives an error of the disk that holds the folder where its reason. Nil,
// errors that have a reason, and those of a context stay as they are.
func storage(where string, err error) error {
	var typed *shared.Error
	switch {
	case err == nil, errors.As(err, &typed), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case diskFull(err):
		return shared.NewError(shared.ReasonStorageFull, "the disk that holds %s is full: %w", where, err).
			WithHint("free some space there, and run the command again; nothing was changed").With("path", where)
	}
	return shared.NewError(shared.ReasonStorage, "%w", err).With("path", where)
}
