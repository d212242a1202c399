package scenario

import "testing"

func TestShippedScenariosAreRead(t *testing.T) {
	all, err := Shipped()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 2 {
		t.Errorf("only %d", len(all))
	}
}
