//go:build !race

package system_test

// raceDetector: the binary is built as these tests are.
const raceDetector = false
