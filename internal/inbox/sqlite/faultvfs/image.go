package faultvfs

import (
	"bytes"
	"fmt"
	"path/filepath"
)

// node is what one path is known to hold on the disk itself, and what has been done to it since and may be lost.
type node struct {
	path    string
	present bool // its name is durable
	durable []byte
	pending []change // in order
}

type change struct {
	at   uint64 // its number on the FS's clock
	kind kind
	off  int64 // of a write: where; of a truncation: the new size
	data []byte
}

type kind uint8

const (
	written kind = iota
	truncated
	removed
)

// note records a change to an open file that the default VFS has carried out.
func (f *FS) note(o *file, c change) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if o.node != nil {
		f.push(o.node, c)
	}
}

// push is called with f.mu held.
func (f *FS) push(n *node, c change) {
	f.clock++
	c.at = f.clock
	n.pending = append(n.pending, c)
}

func (f *FS) now() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.clock
}

// synced closes a sync of the file that began at the moment: what was pending then is durable if it succeeded, and lost
// if not. Changes made while it ran stay pending.
func (f *FS) synced(o *file, began uint64, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := o.node
	if n == nil {
		return
	}
	n.settle(began, ok)
	if !ok {
		return
	}
	n.present = true
	if o.syncsFolder {
		f.folderSynced(n.path, began)
		o.syncsFolder = false
	}
}

// unlinked records the deletion of a path.
func (f *FS) unlinked(path string, folderSynced bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := f.nodes[path]; n != nil {
		f.push(n, change{kind: removed})
	}
	if folderSynced {
		f.folderSynced(path, f.clock)
	}
}

// folderSynced makes the deletions up to a moment durable in the folder of the path. The caller holds f.mu.
func (f *FS) folderSynced(path string, upTo uint64) {
	for _, n := range f.nodes {
		if filepath.Dir(n.path) == filepath.Dir(path) {
			n.settle(n.lastRemoval(upTo), true)
		}
	}
}

// settle ends the wait of the changes up to a moment: they are durable, or they are lost. A deletion is not lost with the
// data of a failed sync: it stays pending.
func (n *node) settle(upTo uint64, durable bool) {
	var rest []change
	for _, c := range n.pending {
		switch {
		case c.at > upTo:
			rest = append(rest, c)
		case durable:
			n.apply(c)
		case c.kind == removed:
			rest = append(rest, c)
		}
	}
	n.pending = rest
}

func (n *node) apply(c change) {
	switch c.kind {
	case written:
		n.resize(max(int64(len(n.durable)), c.off+int64(len(c.data))))
		copy(n.durable[c.off:], c.data)
	case truncated:
		n.resize(c.off)
	case removed:
		n.present, n.durable = false, nil
	}
}

func (n *node) resize(size int64) {
	if old := int64(len(n.durable)); size > old {
		n.durable = append(n.durable, make([]byte, size-old)...)
	}
	n.durable = n.durable[:size]
}

// lastRemoval is the moment of the last pending deletion up to a moment, or zero.
func (n *node) lastRemoval(upTo uint64) (at uint64) {
	for _, c := range n.pending {
		if c.kind == removed && c.at <= upTo {
			at = c.at
		}
	}
	return at
}

// image copies the durable content of every file, by base name, all of one moment.
func (f *FS) image() (map[string][]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := make(map[string][]byte)
	for _, n := range f.nodes {
		if !n.present {
			continue
		}
		base := filepath.Base(n.path)
		if _, taken := m[base]; taken {
			return nil, fmt.Errorf("%w: %s", ErrSameName, base)
		}
		m[base] = bytes.Clone(n.durable)
	}
	return m, nil
}
