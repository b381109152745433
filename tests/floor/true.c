/* Does nothing: to measure only the start of a program. */
int main(void) { return 0; }
