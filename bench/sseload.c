// sseload: a load generator for Server-Sent Events on loopback. gcc -O2 -o sseload sseload.c
// Usage: sseload key=value ...   It prints one line of JSON: what it measured.
//
//   mode=stream|idle|churn   stream: clients read events. idle: clients wait. churn: clients connect, read, leave, repeat
//   port, path, paths        where to connect; path has one %d (the run's number); paths: a file with one path per run
//   conns, runs              clients, and the runs that they are spread over
//   hdr=NAME: VALUE          a request header; may be repeated
//   maxinfl, ramp            connects in flight; connects per second (0: as fast as maxinfl allows)
//   warm, dur, settle        seconds before measuring, of measuring, and after the last connect
//   events                   stop after that many events per client
//   slow                     share of the clients that stop reading after their first event
//   rcvbuf, srcs             receive buffer in bytes; number of source addresses (127.0.0.1 and up)
//   churnhdr=1               churn: a client leaves after the response head, not after its first event
//   pids, core               the server's processes, whose CPU and memory (PSS) count, with their children; its core
//   pub=nchan|mercure|pushpin, pubport, pubpath, pubconns, pubburst, rate, window, payload, jwt, trigger
//                            for peers that are published to over HTTP; window: events in flight
//   shm                      the file shared with drive.py: [0] events received, [1] over, [3] all connected
//   busy=1                   poll without sleeping; timeout: seconds for all connects
//
// An event's data has "n", its sequence number within its run, and "t", CLOCK_MONOTONIC nanoseconds when it was due:
// lost and repeated numbers are counted as gaps and dups; latency is the time from t until the event is read, in µs.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
typedef uint64_t u64; typedef int64_t i64;
static u64 now_ns(void){struct timespec t;clock_gettime(CLOCK_MONOTONIC,&t);return (u64)t.tv_sec*1000000000ull+t.tv_nsec;}
/* ---------------- histogram: log-linear, 32 sub-buckets/octave (~3%) -------- */
#define HB 2048
typedef struct {u64 b[HB],cnt,max,min; double sum;} hist;
static int hidx(u64 v){ if(v<32) return (int)v; int l=63-__builtin_clzll(v); int i=(l-5)*32+32+(int)((v>>(l-5))-32); return i<HB?i:HB-1;}
static u64 hval(int i){ if(i<32) return i; int o=(i-32)/32, r=(i-32)%32; return ((u64)(32+r)<<o)+((1ull<<o)>>1);}
static void hadd(hist*h,u64 v){h->b[hidx(v)]++;h->cnt++;h->sum+=v;if(v>h->max)h->max=v;if(h->cnt==1||v<h->min)h->min=v;}
static double hq(hist*h,double q){ if(!h->cnt) return 0; u64 k=(u64)(q*h->cnt),c=0; for(int i=0;i<HB;i++){c+=h->b[i]; if(c>k){u64 v=hval(i); return (v>h->max?h->max:v)/1e3;}} return h->max/1e3;}
/* ---------------- options ---------------- */
static const char*mode="stream",*pathf="/sse/%d",*trigger=NULL,*pidstr="",*pubmode="none",*pubpath="/pub/%d",*shmname=NULL,*label="";
static int port=8000,conns=1,runs=1,maxinfl=128,busy=1,core=0,srcs=1,rcvbuf=0,pubport=0,pubconns=4,window=8,payload=130,tmo=60,pubburst=1;
static double ramp=0,warm=1,dur=5,rate=0,slow=0,settle=0.3; static long events_expect=0;
static char hdrs[2048]=""; static const char*jwt=""; static int churnhdr=0; 
/* ---------------- paths: one per line, of run 0, 1, ... (if run ids are not numbers) -------- */
static const char*pathsname=NULL; static char**paths;
static void read_paths(int n){ FILE*F=fopen(pathsname,"r"); if(!F){perror(pathsname);exit(1);} paths=calloc(n,sizeof *paths); char L[2048]; for(int i=0;i<n;i++){ if(!fgets(L,sizeof L,F)){fprintf(stderr,"paths: only %d\n",i);exit(1);} L[strcspn(L,"\r\n")]=0; paths[i]=strdup(L);} fclose(F);}
/* ---------------- rounds of heartbeats: a comment begins a round if there was none for a second -------- */

/* ---------------- conn ---------------- */
enum {C_FREE,C_CONN,C_HDR,C_BODY,C_SLOW,C_DEAD};
typedef struct {int fd;uint8_t st,chunked,cst,hasdata,slow,ready;uint32_t crem;uint16_t cl;int run;char*carry;i64 lastn,n;u64 t,ev,t0;} conn;
static conn*cs; static int ep; static int nready,ndead,ninfl,nopen;
static u64 tot_ev,tot_bytes,gaps,dups,comments,bad_status,errs,fast_total,nreads; static int measuring; static hist H,T; static u64 churn_done; static volatile u64*shm; static long done_conns;
static char dummy[64];
static void fail(const char*m){printf("{\"label\":\"%s\",\"error\":\"%s\",\"errno\":%d,\"ready\":%d,\"dead\":%d,\"bad\":%llu}\n",label,m,errno,nready,ndead,(unsigned long long)bad_status);exit(2);}
static int srcrr;
static void open_conn(int i){
  conn*c=&cs[i]; int fd=socket(AF_INET,SOCK_STREAM|SOCK_NONBLOCK,0); if(fd<0) fail("socket");
  int one=1; setsockopt(fd,IPPROTO_TCP,TCP_NODELAY,&one,sizeof one);
  if(rcvbuf&&(slow<=0||c->slow)) setsockopt(fd,SOL_SOCKET,SO_RCVBUF,&rcvbuf,sizeof rcvbuf);
  if(srcs>1){ setsockopt(fd,IPPROTO_IP,IP_BIND_ADDRESS_NO_PORT,&one,sizeof one);
    struct sockaddr_in s={.sin_family=AF_INET}; s.sin_addr.s_addr=htonl(0x7f000001u+(srcrr++%srcs)); if(bind(fd,(void*)&s,sizeof s)) fail("bind");}
  struct sockaddr_in a={.sin_family=AF_INET,.sin_port=htons(port)}; a.sin_addr.s_addr=htonl(0x7f000001u);
  c->fd=fd;c->st=C_CONN;c->cl=0;c->hasdata=0;c->lastn=-1;c->ev=0;c->chunked=0;c->cst=0;c->crem=0;c->n=-1;c->t=0;c->t0=now_ns();
  if(connect(fd,(void*)&a,sizeof a)&&errno!=EINPROGRESS){errs++;close(fd);c->st=C_DEAD;ndead++;return;}
  struct epoll_event e={.events=EPOLLIN|EPOLLOUT,.data.u64=i}; epoll_ctl(ep,EPOLL_CTL_ADD,fd,&e); ninfl++; nopen++;
}
static int churn;
static void close_conn(int i,int bad){ conn*c=&cs[i]; if(c->st==C_CONN||c->st==C_HDR) ninfl--; else if(churn&&!c->ready) ninfl--; close(c->fd); nopen--; c->st=C_DEAD; if(bad){errs++; ndead++;} }
static inline i64 num(const char*p,const char*e){ while(p<e&&(*p==' '||*p==':'))p++; i64 v=0; while(p<e&&*p>='0'&&*p<='9'){v=v*10+(*p-'0');p++;} return v;}
static u64 rx_now; static int churn_hit; static hist B; static u64 beat_began,beat_last,beat_rounds;
static void beat(void){ if(rx_now-beat_last>1000000000ull){beat_began=rx_now;beat_rounds++;} beat_last=rx_now; hadd(&B,rx_now-beat_began); }
static void line(conn*c,const char*l,int n){
  if(n&&l[n-1]=='\r') n--;
  if(n==0){ if(c->hasdata){ c->hasdata=0;
      c->ev++; if(!c->slow){fast_total++;}
      if(c->n>=0){ if(c->lastn>=0){ if(c->n>c->lastn+1) gaps+=c->n-c->lastn-1; else if(c->n<=c->lastn) dups++; } if(c->n>c->lastn) c->lastn=c->n; }
      if(measuring){ tot_ev++; if(c->t&&!c->slow) hadd(&H,rx_now>c->t?rx_now-c->t:0);}
      if(events_expect&&(long)c->ev==events_expect&&!c->slow) done_conns++;
      if(churn) churn_hit=1;
      c->n=-1;c->t=0; } return; }
  if(l[0]==':'){ if(measuring){comments++;beat();} return; }
  if(n>=5&&!memcmp(l,"data:",5)){ c->hasdata=1; int m=n>120?120:n; 
    if(c->n<0){ const char*p=memmem(l,m,"\"n\":",4); if(p) c->n=num(p+4,l+m); p=memmem(l,m,"\"t\":",4); if(p) c->t=num(p+4,l+m);} }
}
#define CAP 256
static void feed(conn*c,const char*p,const char*e){
  while(p<e){ const char*nl=memchr(p,'\n',e-p); int n=nl?nl-p:e-p;
    if(!nl){ if(!c->carry) c->carry=malloc(CAP); int k=CAP-c->cl; if(n<k)k=n; memcpy(c->carry+c->cl,p,k); c->cl+=k; return; }
    if(c->cl){ int k=CAP-c->cl; if(n<k)k=n; memcpy(c->carry+c->cl,p,k); c->cl+=k; int L=c->cl; c->cl=0; line(c,c->carry,L);} else line(c,p,n);
    p=nl+1; }
}
static int body(conn*c,const char*p,const char*e){ // 0 ok, 1 end
  if(!c->chunked){feed(c,p,e);return 0;}
  while(p<e){ switch(c->cst){
    case 0: { char ch=*p; int d=-1; if(ch>='0'&&ch<='9')d=ch-'0'; else if(ch>='a'&&ch<='f')d=ch-'a'+10; else if(ch>='A'&&ch<='F')d=ch-'A'+10;
      if(d>=0){c->crem=c->crem*16+d;p++;} else if(ch=='\n'){p++; if(c->crem==0) return 1; c->cst=2;} else {p++;} break; }
    case 2: { u64 k=e-p; if(k>c->crem)k=c->crem; feed(c,p,p+k); p+=k; c->crem-=k; if(!c->crem)c->cst=3; break; }
    case 3: if(*p=='\n') c->cst=0; p++; break; } }
  return 0;
}
/* ---------------- CPU accounting ---------------- */
static int pids[256],npids; 
static void expand_pids(void){ npids=0; char b[1024]; snprintf(b,sizeof b,"%s",pidstr); for(char*t=strtok(b,",");t;t=strtok(NULL,",")) pids[npids++]=atoi(t);
  for(int round=0;round<4;round++){ DIR*d=opendir("/proc"); struct dirent*e; while((e=readdir(d))){ int p=atoi(e->d_name); if(p<=0)continue; char f[300],s[1024]; snprintf(f,sizeof f,"/proc/%d/stat",p); FILE*F=fopen(f,"r"); if(!F)continue; size_t n=fread(s,1,sizeof s-1,F); s[n]=0; fclose(F); char*q=strrchr(s,')'); if(!q)continue; char st;int pp; if(sscanf(q+1," %c %d",&st,&pp)!=2)continue; int have=0,par=0; for(int i=0;i<npids;i++){if(pids[i]==p)have=1; if(pids[i]==pp)par=1;} if(par&&!have&&npids<250)pids[npids++]=p; } closedir(d);} }
static void srv_cpu(double*u,double*s,long*rss){ *u=*s=0;*rss=0; static double tk=0; if(!tk)tk=sysconf(_SC_CLK_TCK); 
  for(int i=0;i<npids;i++){ char f[64],b[1024]; snprintf(f,sizeof f,"/proc/%d/stat",pids[i]); FILE*F=fopen(f,"r"); if(!F)continue; size_t n=fread(b,1,sizeof b-1,F); b[n]=0; fclose(F); char*q=strrchr(b,')'); if(!q)continue; unsigned long ut=0,st=0; sscanf(q+1," %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu",&ut,&st); *u+=ut/tk;*s+=st/tk;
    snprintf(f,sizeof f,"/proc/%d/smaps_rollup",pids[i]); F=fopen(f,"r"); if(F){char L[256]; long v; while(fgets(L,sizeof L,F)) if(sscanf(L,"Pss: %ld",&v)==1){*rss+=v;break;} fclose(F);} } }
static void core_cpu(int c,double*busyv,double*steal){ FILE*F=fopen("/proc/stat","r"); char L[512],k[16]; snprintf(k,sizeof k,"cpu%d ",c); *busyv=*steal=0; while(F&&fgets(L,sizeof L,F)) if(!strncmp(L,k,strlen(k))){ unsigned long u,n,s,id,io,hi,si,stl; if(sscanf(L+strlen(k),"%lu %lu %lu %lu %lu %lu %lu %lu",&u,&n,&s,&id,&io,&hi,&si,&stl)==8){*busyv=(u+n+s+hi+si)/100.0;*steal=stl/100.0;} } if(F)fclose(F);}
static long sockmem(void){ FILE*F=fopen("/proc/net/sockstat","r"); char L[256]; long m=0; while(F&&fgets(L,sizeof L,F)){char*p=strstr(L,"mem ");if(!strncmp(L,"TCP:",4)&&p)m=atol(p+4)*4;} if(F)fclose(F); return m;}
/* ---------------- publisher (external peers: nchan, pushpin) ------------- */
typedef struct {int fd; char*ob; size_t ol,oc; u64 sent,acked; int m; } pubc; static pubc*pc; static u64 published; static u64 pub_t0; static int pub_on; static u64 pub_errs; static int inj;
static void pub_flush(pubc*p){ while(p->ol){ ssize_t r=send(p->fd,p->ob,p->ol,MSG_NOSIGNAL|MSG_DONTWAIT); if(r<=0)break; memmove(p->ob,p->ob+r,p->ol-r); p->ol-=r; } }
static void pub_drain(pubc*p){ static char b[65536]; ssize_t r; while((r=recv(p->fd,b,sizeof b,MSG_DONTWAIT))>0){ for(ssize_t i=0;i<r;i++){ static const char*M="HTTP/1.1 "; if(b[i]==M[p->m]){p->m++; if(p->m==9){p->acked++;p->m=0; if(i+1<r&&b[i+1]!='2')pub_errs++;}} else p->m=(b[i]=='H'); } } if(r==0) {pub_errs++; } }
static void pub_one(int run,u64 n,u64 t){ static char pad[8192]; if(!pad[0])memset(pad,'x',sizeof pad-1); char bodyb[9000],req[14000],pth[256]; int bl;
  if(!strcmp(pubmode,"pushpin")) bl=snprintf(bodyb,sizeof bodyb,"{\"items\":[{\"channel\":\"r%d\",\"formats\":{\"http-stream\":{\"content\":\"id: %llu\\ndata: {\\\"n\\\":%llu,\\\"t\\\":%llu,\\\"run\\\":\\\"run-%04d\\\",\\\"type\\\":\\\"stream\\\",\\\"payload\\\":\\\"%.*s\\\"}\\n\\n\"}}}]}",run,(unsigned long long)n,(unsigned long long)n,(unsigned long long)t,run,payload,pad);
  else bl=snprintf(bodyb,sizeof bodyb,"{\"n\":%llu,\"t\":%llu,\"run\":\"run-%04d\",\"type\":\"stream\",\"payload\":\"%.*s\"}",(unsigned long long)n,(unsigned long long)t,run,payload,pad);
  int merc=!strcmp(pubmode,"mercure"); if(merc){ /* form encoding as urllib does it */ static char eb[12000]; int o=sprintf(eb,"topic=r%d&data=",run); for(int i=0;i<bl;i++){ unsigned char ch=bodyb[i]; if((ch>='a'&&ch<='z')||(ch>='A'&&ch<='Z')||(ch>='0'&&ch<='9')||ch=='-'||ch=='_'||ch=='.') eb[o++]=ch; else o+=sprintf(eb+o,"%%%02X",ch);} eb[o]=0;
    int rl=snprintf(req,sizeof req,"POST %s HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n%s",pubpath,jwt,o,eb); pubc*p=&pc[run%pubconns]; if(p->ol+rl>p->oc){p->oc=(p->ol+rl)*2;p->ob=realloc(p->ob,p->oc);} memcpy(p->ob+p->ol,req,rl);p->ol+=rl;p->sent++; if(pubburst<=1)pub_flush(p); published++; return; }
  snprintf(pth,sizeof pth,pubpath,run); int rl=snprintf(req,sizeof req,"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",pth,bl,bodyb);
  if(!strcmp(pubmode,"pushpin")){ /* the control port closes after each request: one connection per publish */
    int f=socket(AF_INET,SOCK_STREAM,0); struct sockaddr_in a={.sin_family=AF_INET,.sin_port=htons(pubport)}; a.sin_addr.s_addr=htonl(0x7f000001u); if(connect(f,(void*)&a,sizeof a)){pub_errs++;close(f);return;} if(send(f,req,rl,MSG_NOSIGNAL)!=rl)pub_errs++; struct epoll_event e={.events=EPOLLIN,.data.u64=(1ull<<41)|f}; epoll_ctl(ep,EPOLL_CTL_ADD,f,&e); pc[0].sent++; published++; return; }
  pubc*p=&pc[run%pubconns]; if(p->ol+rl>p->oc){p->oc=(p->ol+rl)*2;p->ob=realloc(p->ob,p->oc);} memcpy(p->ob+p->ol,req,rl);p->ol+=rl;p->sent++; if(pubburst<=1)pub_flush(p); published++; }
static void pub_step(void){ u64 n=now_ns(); if(!pub_on)return; 
  u64 acked=0,sent=0; for(int i=0;i<pubconns;i++){acked+=pc[i].acked;sent+=pc[i].sent;}
  if(rate>0){ u64 due=(u64)((n-pub_t0)/1e9*rate); int k=0; while(published<due&&k++<256&&sent-acked<4096){ int r=published%runs; pub_one(r,published/runs+1,pub_t0+(u64)((published+1)/rate*1e9)); sent++; } }
  else if(pubburst>1){ int nf=conns-(int)(conns*slow); while((published+pubburst)*(u64)nf/runs<=fast_total+(u64)window*nf/runs){ for(int b=0;b<pubburst;b++) pub_one(published%runs,published/runs+1,now_ns()); for(int i=0;i<pubconns;i++) pub_flush(&pc[i]); sent+=pubburst; if(sent-acked>4096)break; } }
  else { int nf=conns-(int)(conns*slow); while((published-inj)*(u64)nf/runs<fast_total+(u64)window*nf/runs){ pub_one(published%runs,published/runs+1,now_ns()); sent++; if(sent-acked>4096)break; } }
}
static void do_trigger(const char*path){ int fd=socket(AF_INET,SOCK_STREAM,0); struct sockaddr_in a={.sin_family=AF_INET,.sin_port=htons(port)}; a.sin_addr.s_addr=htonl(0x7f000001u); if(connect(fd,(void*)&a,sizeof a))fail("trigger connect"); char r[1024]; int n=snprintf(r,sizeof r,"GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",path); if(write(fd,r,n)!=n)fail("trigger write"); struct timeval tv={10,0}; setsockopt(fd,SOL_SOCKET,SO_RCVTIMEO,&tv,sizeof tv); n=read(fd,r,sizeof r-1); if(n<12||memcmp(r+9,"200",3)){r[n>0?n:0]=0;fprintf(stderr,"trigger reply %s\n",r);fail("trigger status");} close(fd);}
static void on_alarm(int s){(void)s; static const char m[]="{\"error\":\"hard timeout\"}\n"; if(write(1,m,sizeof m-1)){} _exit(3);}
int main(int ac,char**av){
  for(int i=1;i<ac;i++){ char*v=strchr(av[i],'='); if(!v){fprintf(stderr,"bad arg %s\n",av[i]);return 1;} *v++=0; char*k=av[i];
#define S(x,y) if(!strcmp(k,x)){y=v;continue;}
#define I(x,y) if(!strcmp(k,x)){y=atoi(v);continue;}
#define D(x,y) if(!strcmp(k,x)){y=atof(v);continue;}
    S("mode",mode)S("path",pathf)S("trigger",trigger)S("pids",pidstr)S("pub",pubmode)S("pubpath",pubpath)S("shm",shmname)S("label",label)
    I("port",port)I("conns",conns)I("runs",runs)I("maxinfl",maxinfl)I("busy",busy)I("core",core)I("srcs",srcs)I("rcvbuf",rcvbuf)I("pubport",pubport)I("pubconns",pubconns)I("window",window)I("payload",payload)I("timeout",tmo)I("pubburst",pubburst)I("churnhdr",churnhdr)S("jwt",jwt)S("paths",pathsname)
    D("ramp",ramp)D("warm",warm)D("dur",dur)D("rate",rate)D("slow",slow)D("settle",settle) if(!strcmp(k,"events")){events_expect=atol(v);continue;}
    if(!strcmp(k,"hdr")){snprintf(hdrs+strlen(hdrs),sizeof hdrs-strlen(hdrs),"%s\r\n",v);continue;}
    fprintf(stderr,"unknown %s\n",k);return 1; }
  signal(SIGPIPE,SIG_IGN); signal(SIGALRM,on_alarm); alarm(tmo+(int)(warm+dur)+10);
  struct rlimit rl={conns+200,conns+200}; struct rlimit cur; getrlimit(RLIMIT_NOFILE,&cur); if((int)cur.rlim_cur<conns+200) if(setrlimit(RLIMIT_NOFILE,&rl)) perror("setrlimit");
  static u64 localshm[8]; shm=localshm; if(shmname){int f=open(shmname,O_RDWR|O_CREAT,0600); if(ftruncate(f,4096)){} shm=mmap(0,4096,PROT_READ|PROT_WRITE,MAP_SHARED,f,0); if(shm==MAP_FAILED)fail("mmap"); for(int i=0;i<8;i++)shm[i]=0;}
  if(pathsname) read_paths(runs);
  churn=!strcmp(mode,"churn"); int idle=!strcmp(mode,"idle"); cs=calloc(conns,sizeof *cs); ep=epoll_create1(0);
  int nslow=(int)(conns*slow+0.5); for(int i=0;i<conns;i++){cs[i].run=i%runs; cs[i].fd=-1;}
  for(int i=0;i<nslow;i++) cs[(int)((double)i*conns/nslow)].slow=1;
  expand_pids(); double u0,s0,u1,s1,cb0,cb1,st0,st1,lb; long rss_base,rss0,rss1,sm_base=sockmem(),sm0,sm1; srv_cpu(&u0,&s0,&rss_base); double ub=u0+s0; 
  u64 T0=now_ns(),tready=0,tmeas=0,tend=0; int started=0,phase=0,next=0; static struct epoll_event evs[4096]; static char buf[1<<18]; u64 lastpub=0; struct rusage ru0={0},ru1; long rss_peak=0; u64 last_rss=0; 
  while(1){ u64 n=now_ns();
    if(phase==0){ int allow=conns; if(ramp>0){double a=(n-T0)/1e9*ramp; allow=a>conns?conns:(int)a;} while(next<allow&&ninfl<maxinfl){open_conn(next++);} 
      if(churn||nready+ndead>=conns){ if(!churn&&ndead) fail("connections failed"); if(!started){started=1;tready=n;} if(n-tready>settle*1e9){ phase=1; rss0=0; 
          if(!strcmp(pubmode,"nchan")||!strcmp(pubmode,"mercure")||!strcmp(pubmode,"pushpin")){ pc=calloc(pubconns,sizeof *pc); for(int i=0;i<pubconns;i++){ pc[i].fd=socket(AF_INET,SOCK_STREAM,0); int one=1; setsockopt(pc[i].fd,IPPROTO_TCP,TCP_NODELAY,&one,sizeof one); struct sockaddr_in a={.sin_family=AF_INET,.sin_port=htons(pubport?pubport:port)}; a.sin_addr.s_addr=htonl(0x7f000001u); if(connect(pc[i].fd,(void*)&a,sizeof a))fail("pub connect"); fcntl(pc[i].fd,F_SETFL,O_NONBLOCK); struct epoll_event e={.events=EPOLLIN,.data.u64=(1ull<<40)+i}; epoll_ctl(ep,EPOLL_CTL_ADD,pc[i].fd,&e);} pub_on=1; pub_t0=now_ns(); }
          if(trigger) do_trigger(trigger); shm[3]=1; tmeas=now_ns(); } }
      else if(n-T0>(u64)tmo*1000000000ull) fail("ramp timeout"); }
    else if(phase==1){ if(n-tmeas>=warm*1e9){ phase=2; measuring=1; tmeas=n; expand_pids(); srv_cpu(&u0,&s0,&rss0); core_cpu(core,&cb0,&st0); sm0=sockmem(); getrusage(RUSAGE_SELF,&ru0); tmeas=now_ns(); tend=tmeas; churn_done=0; nreads=0; published+=0; shm[2]=published; } }
    else { if(n-tmeas>=dur*1e9||(events_expect&&done_conns>=conns-nslow)){ tend=n; break; } if(slow>0&&n-last_rss>250000000ull){last_rss=n; double a,b; long r; srv_cpu(&a,&b,&r); if(r>rss_peak)rss_peak=r;} }
    if(pub_on&&phase>=1&&(rate==0||n-lastpub>1000000)){lastpub=n;pub_step();}
    int to=busy&&phase>0&&!idle?0:1; int k=epoll_wait(ep,evs,4096,to); rx_now=now_ns();
    for(int j=0;j<k;j++){ u64 id=evs[j].data.u64; if(id>>41){ int f=id&0xffffffff; char tb[512]; ssize_t r=recv(f,tb,sizeof tb,MSG_DONTWAIT); if(r>0&&r>12&&tb[9]!='2')pub_errs++; if(r<0&&errno==EAGAIN)continue; pc[0].acked++; close(f); continue; } if(id>>40){ pubc*p=&pc[id&0xffffff]; pub_drain(p); pub_flush(p); continue; }
      int i=(int)id; conn*c=&cs[i]; if(c->st==C_DEAD)continue;
      if(c->st==C_CONN){ if(evs[j].events&(EPOLLERR|EPOLLHUP)){close_conn(i,1); if(churn)open_conn(i); continue;} if(evs[j].events&EPOLLOUT){ char pth[2048], rq[8192]; if(paths) snprintf(pth,sizeof pth,"%s",paths[c->run]); else snprintf(pth,sizeof pth,pathf,c->run); int L=snprintf(rq,sizeof rq,"GET %s HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n%s\r\n",pth,hdrs); if(send(c->fd,rq,L,MSG_NOSIGNAL)!=L){close_conn(i,1);continue;} struct epoll_event e={.events=EPOLLIN,.data.u64=i}; epoll_ctl(ep,EPOLL_CTL_MOD,c->fd,&e); c->st=C_HDR; } continue; }
      ssize_t r=recv(c->fd,buf,sizeof buf,0); if(r<0&&(errno==EAGAIN||errno==EINTR))continue; nreads++;
      if(r<=0){ close_conn(i,1); if(churn)open_conn(i); continue; }
      if(measuring) tot_bytes+=r; const char*p=buf,*e=buf+r;
      if(c->st==C_HDR){ static char hb[8192]; if(!c->carry)c->carry=malloc(CAP); /* headers: assume they fit one or two reads */ 
        memcpy(hb,c->carry,c->cl); int hl=c->cl; int room=sizeof hb-1-hl; int cp=r<room?r:room; memcpy(hb+hl,buf,cp); hb[hl+cp]=0; char*q=strstr(hb,"\r\n\r\n"); if(!q){ int kk=hl+cp>CAP?CAP:hl+cp; memcpy(c->carry,hb,kk); c->cl=kk; continue; }
        int hlen=q+4-hb-hl; q[2]=0; if(memcmp(hb+9,"200",3)){bad_status++; if(bad_status==1)fprintf(stderr,"bad: %.200s\n",hb); close_conn(i,1); continue;} c->chunked=strcasestr(hb,"transfer-encoding: chunked")!=NULL; c->cl=0; c->st=C_BODY; p=buf+hlen; if(!churn){ninfl--;nready++;c->ready=1;} else c->ready=0; }
      churn_hit=0; if(p<e) if(body(c,p,e)){close_conn(i,1);continue;}
      if(churn&&churnhdr&&c->st==C_BODY) churn_hit=1;
      if(churn&&churn_hit){ if(measuring){churn_done++; hadd(&T,now_ns()-c->t0);} ninfl--; c->ready=1; close(c->fd); nopen--; open_conn(i); continue; }
      if(c->slow&&phase>=1&&c->ev>=1){ epoll_ctl(ep,EPOLL_CTL_DEL,c->fd,NULL); c->st=C_SLOW; }
    }
    shm[0]=fast_total;
    if(phase==2&&nopen==0&&!churn) {tend=rx_now;break;}
  }
  shm[1]=1; srv_cpu(&u1,&s1,&rss1); core_cpu(core,&cb1,&st1); sm1=sockmem(); getrusage(RUSAGE_SELF,&ru1);
  double el=(tend-tmeas)/1e9, cpu=u1+s1-u0-s0; lb=(ru1.ru_utime.tv_sec-ru0.ru_utime.tv_sec)+(ru1.ru_stime.tv_sec-ru0.ru_stime.tv_sec)+((ru1.ru_utime.tv_usec-ru0.ru_utime.tv_usec)+(ru1.ru_stime.tv_usec-ru0.ru_stime.tv_usec))/1e6;
  u64 minev=~0ull,maxev=0; for(int i=0;i<conns;i++) if(!cs[i].slow){ if(cs[i].ev<minev)minev=cs[i].ev; if(cs[i].ev>maxev)maxev=cs[i].ev; }
  u64 acked=0; for(int i=0;pc&&i<pubconns;i++)acked+=pc[i].acked;
  printf("{\"label\":\"%s\",\"mode\":\"%s\",\"conns\":%d,\"runs\":%d,\"elapsed\":%.3f,\"ev\":%llu,\"ev_s\":%.1f,\"MBps\":%.1f,\"srv_cpu\":%.2f,\"srv_u\":%.2f,\"srv_s\":%.2f,\"srv_util\":%.3f,\"core_util\":%.3f,\"steal\":%.3f,\"us_cpu_ev\":%.3f,\"us_core_ev\":%.3f,\"p50\":%.0f,\"p90\":%.0f,\"p99\":%.0f,\"p999\":%.0f,\"max\":%.0f,\"mean\":%.0f,\"gaps\":%llu,\"dups\":%llu,\"dead\":%d,\"errs\":%llu,\"bad\":%llu,\"comments\":%llu,\"min_ev\":%llu,\"max_ev\":%llu,\"ramp_s\":%.3f,\"ramp_cpu\":%.2f,\"pss_base_kb\":%ld,\"pss0_kb\":%ld,\"pss1_kb\":%ld,\"pss_peak_kb\":%ld,\"tcpmem_base_kb\":%ld,\"tcpmem0_kb\":%ld,\"tcpmem1_kb\":%ld,\"load_util\":%.3f,\"load_s\":%.2f,\"ev_per_read\":%.2f,\"pub\":%llu,\"pub_ack\":%llu,\"pub_err\":%llu",
   label,mode,conns,runs,el,(unsigned long long)tot_ev,tot_ev/el,tot_bytes/el/1e6,cpu,u1-u0,s1-s0,cpu/el,(cb1-cb0)/el,(st1-st0)/el,tot_ev?cpu*1e6/tot_ev:0,tot_ev?(cb1-cb0)*1e6/tot_ev:0,hq(&H,.5),hq(&H,.9),hq(&H,.99),hq(&H,.999),H.max/1e3,H.cnt?H.sum/H.cnt/1e3:0,(unsigned long long)gaps,(unsigned long long)dups,ndead,(unsigned long long)errs,(unsigned long long)bad_status,(unsigned long long)comments,(unsigned long long)minev,(unsigned long long)maxev,(tready-T0)/1e9,u0+s0-ub,rss_base,rss0,rss1,rss_peak,sm_base,sm0,sm1,lb/el,(double)(ru1.ru_stime.tv_sec-ru0.ru_stime.tv_sec)+(ru1.ru_stime.tv_usec-ru0.ru_stime.tv_usec)/1e6,nreads?(double)tot_ev/nreads:0,(unsigned long long)published,(unsigned long long)acked,(unsigned long long)pub_errs);
  if(B.cnt) printf(",\"beat_rounds\":%llu,\"beat_p50\":%.0f,\"beat_p99\":%.0f,\"beat_max\":%.0f",(unsigned long long)beat_rounds,hq(&B,.5),hq(&B,.99),B.max/1e3);
  if(churn) printf(",\"churn\":%llu,\"conn_s\":%.1f,\"us_cpu_conn\":%.1f,\"ttfe_p50\":%.0f,\"ttfe_p90\":%.0f,\"ttfe_p99\":%.0f,\"ttfe_p999\":%.0f,\"ttfe_max\":%.0f",(unsigned long long)churn_done,churn_done/el,churn_done?cpu*1e6/churn_done:0,hq(&T,.5),hq(&T,.9),hq(&T,.99),hq(&T,.999),T.max/1e3);
  printf("}\n"); (void)dummy; return 0; }
