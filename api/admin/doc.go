// Package admin is the admin API: JSON over HTTP on the operator door and on
// the unix socket, under /api/v1.
//
// A read first waits for a linearizable read point, then looks at one state; a
// change becomes one command, is proposed from whichever node was asked, and is
// answered when the live nodes have applied it. The package keeps no state of
// its own: every object it shows or takes is a translation of one in
// cluster.State, in the file of that object's name.
//
// Authorize stands in front of everything on the operator door, this API
// included, and says who may.
package admin
