package trace

func (l *look) readHandlers() {}
func (l *look) nameHandlers() {}

type handlerList struct{}
