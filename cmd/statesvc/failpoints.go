//go:build !failpoints

package main

import "github.com/statesvc/statesvc/shard/failpoint"

// failPoints is empty in a release. Tests build with the tag failpoints.
func failPoints() failpoint.Points { return nil }
