//go:build !unix

package register

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// lock refuses: the file register is for Unix, and a lock that does not exclude is worse than none.
func lock(context.Context, *os.File) error {
	return fmt.Errorf("file register: %w", errors.ErrUnsupported)
}

func unlock(*os.File) {}
