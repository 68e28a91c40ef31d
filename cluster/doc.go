// Package cluster is how the members agree: on a State through Raft, and on
// how each of them is through heartbeats.
//
// The State is a value (state.go and its neighbours): members and their stores,
// rings with their slot tables, tenants, tokens, settings. Applying a command is
// pure. The Node (node.go) is the machine around it:
//
//	Propose ──▶ leader ──▶ Raft's log ──▶ fsm on every node
//	 any node    once       bolt, fsync     │ 1 next state, pure
//	                                        │ 2 its revision is recorded, fsync
//	                                        │ 3 one pointer is swapped: State()
//	                                        │ 4 watchers hear old, new, keys
//	                                        ▼ 5 the revision counts as applied
//	answer ◀── leader waits for live nodes ◀── heartbeats, at once
//
// Because a revision is recorded before anything is served by it, a node that
// starts rebuilds what it served by before it hears of any leader, and its view
// never goes backwards. Without a quorum of voters changes stop; writes of
// samples do not, since they need the State and no leader. Queries are answered,
// but do not call themselves complete: a leader confirms that.
//
// A dead leader is missed by the voters in turn (suspect.go), so that the next one
// leads within three seconds.
//
// A heartbeat goes from each node to the leader every second, and whenever a
// node has applied or announced a newer revision. The answer tells how all
// members are. None of it enters the log.
//
// The leader's loop (leader.go) does what follows from the state and from what
// it hears, so that any leader resumes what another left: Raft's servers follow
// the members, joined nodes become active, voters are chosen (autopilot.go),
// ended epochs are closed and slots follow their plan (planning.go), members
// that leave are let go when they are empty (removal.go), what is over is
// forgotten, states are compared.
//
// A node joins in this order: it checks the server against the CA hash in its
// token, sends the token and a certificate request; the member looks whether it
// can be reached, and only then has it committed as a joining member; it gets a
// certificate for its incarnation; the leader makes it a server without a vote;
// once it has applied its own joining it is active, may be given slots, and may
// be chosen as a voter, which brings it the CA's key.
package cluster
