// Package custody empties a node that leaves for good, and keeps what it leaves
// behind.
//
//	the leaver                                    its custodian
//	slots moved, epochs closed   (the leader's)
//	no append under way
//	heads cut, out of order included
//	blocks in the bucket, verified
//	custodian named              ── Raft ──▶      learns that it is one
//	blocks given, unchanged      ── Hand ──▶      <ulid>.part, checked, renamed
//	all blocks named             ── Seal ──▶      seal.json: answers for the store
//	store emptied                ── Raft ──▶
//	taken out                    (the leader's)
//
// Every step asks first what is there already, so that each may be repeated, by
// the same process or by the next one. What a crash does, line by line:
//
//	the leaver dies
//	  before or in a cut        the logs have what no block has; it cuts again
//	  before or in an upload    ship/doc.go says it object by object
//	  before the custodian is   nobody has heard of it; the next one is chosen
//	  committed                 anew, perhaps another
//	  after that                it is in the state: the same one goes on
//	  in a block's giving       the custodian keeps what came; the rest follows
//	  before the seal           Seal asks again what is missing
//	  after the seal, before    the custodian answers for the store, and so does
//	  EmptyStore                the leaver; it seals again, the same
//	  after EmptyStore          nothing is left to do here
//	the custodian dies
//	  in a block's taking       tsdb.Adopted says it; the leaver's stream ends,
//	                            and it gives the block again
//	  before the seal           it answers for nothing; the leaver seals again
//	  after the seal            it opens what the seal names, and answers
//	  for good, before the      the leaver names another one when this one was
//	  leaver is out             silent for a while, or was removed
//	  for good, after it        what it kept is lost, or is in the bucket only
//	the leader dies             the next one finds all of it in the state
//
// A custodian that leaves gives on what it keeps in the same way: the new one is
// named beside it, and takes its place once it has sealed.
package custody
