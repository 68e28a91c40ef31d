//go:build poison

package tsdb

// poisoned says that this is a build which overwrites what goes back to a pool,
// so that whoever still reads it is found out.
const poisoned = true
