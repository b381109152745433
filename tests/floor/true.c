/* Does nothing: what is started where only the starting counts. */
int main(void) { return 0; }
