package admin

// history is when and by whom an object was made and changed last. It is shown
// and, in a PUT of what was read, not looked at.
type history struct {
	Created   string `json:"created,omitempty"` // RFC 3339
	CreatedBy string `json:"created_by,omitempty"`
	Changed   string `json:"changed,omitempty"`
	ChangedBy string `json:"changed_by,omitempty"`
}

// changed is what the state keeps of an object's last change.
type changed interface {
	GetChangedMs() int64
	GetChangedBy() string
}

// created is what the state keeps of an object's making.
type created interface {
	GetCreatedMs() int64
	GetCreatedBy() string
}

func historyOf(o changed) history {
	h := history{Changed: timeText(o.GetChangedMs()), ChangedBy: o.GetChangedBy()}
	if c, ok := o.(created); ok {
		h.Created, h.CreatedBy = timeText(c.GetCreatedMs()), c.GetCreatedBy()
	}
	return h
}
