//go:build !poison

package ingest

// poisoned says that this is a build which overwrites what goes back to a pool.
const poisoned = false
