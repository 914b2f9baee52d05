package config

import (
	"bytes"
	"fmt"

	"gopkg.in/yaml.v3"
)

// Places are the paths in a file that say where a node's files are, as they stand there.
type Places struct {
	Entropy      string // secret.entropy
	PasswordFile string // secret.password_file; empty: none
	Data         string // storage.path
}

// Relocate returns the file b with other places, for a node that is moved. It is b itself
// if nothing has to change; else comments stay and the layout may not.
func Relocate(b []byte, to Places) ([]byte, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(b, &doc); err != nil {
		_, text := yamlError(err)
		return nil, fmt.Errorf("move the configuration: %s", text)
	}
	if len(doc.Content) == 0 || doc.Content[0].Kind != yaml.MappingNode {
		return nil, fmt.Errorf("move the configuration: it is no section of keys")
	}
	root := doc.Content[0]
	changed := false
	for _, x := range []struct{ section, key, missing, value string }{
		{"secret", "entropy", "entropy.txt", to.Entropy},
		{"secret", "password_file", "", to.PasswordFile},
		{"storage", "path", "data", to.Data},
	} {
		if set(root, x.section, x.key, x.missing, x.value) {
			changed = true
		}
	}
	if !changed {
		return b, nil
	}
	var out bytes.Buffer
	e := yaml.NewEncoder(&out)
	e.SetIndent(2)
	if err := e.Encode(&doc); err != nil {
		return nil, fmt.Errorf("move the configuration: %w", err)
	}
	return out.Bytes(), nil
}

// set gives section.key a value unless it has that already. A key that is not there
// means missing.
func set(root *yaml.Node, section, key, missing, value string) (changed bool) {
	s := child(root, section)
	if s != nil && s.Kind == yaml.MappingNode {
		if v := child(s, key); v != nil && v.Tag != "!!null" {
			if v.Value == value {
				return false
			}
			*v = yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: value, LineComment: v.LineComment}
			return true
		}
	}
	if value == missing {
		return false
	}
	if s == nil {
		s = new(yaml.Node)
		root.Content = append(root.Content, scalar(section), s)
	}
	if s.Kind != yaml.MappingNode { // "section:" with nothing behind it
		*s = yaml.Node{Kind: yaml.MappingNode}
	}
	if v := child(s, key); v != nil {
		*v = *scalar(value)
	} else {
		s.Content = append(s.Content, scalar(key), scalar(value))
	}
	return true
}

func scalar(text string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text}
}

// child returns the value of a key of a mapping, nil if it is not there.
func child(n *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}
